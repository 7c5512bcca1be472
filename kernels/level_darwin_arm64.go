//go:build !purego

package kernels

import "syscall"

// hasBF16 asks the kernel, by the name under which Apple documents FEAT_BF16.
func hasBF16() bool {
	v, err := syscall.SysctlUint32("hw.optional.arm.FEAT_BF16")
	return err == nil && v == 1
}
