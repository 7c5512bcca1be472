//go:build !purego

package kernels

import (
	"encoding/binary"
	"os"
)

// hasBF16 looks for HWCAP2_BF16 in the auxiliary vector that the Linux kernel hands to each process (x/sys/cpu leaves this bit out).
func hasBF16() bool {
	const hwcap2, bf16 = 26, 1 << 14
	vector, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return false
	}
	for ; len(vector) >= 16; vector = vector[16:] {
		if binary.LittleEndian.Uint64(vector) == hwcap2 {
			return binary.LittleEndian.Uint64(vector[8:])&bf16 != 0
		}
	}
	return false
}
