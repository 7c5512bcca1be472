package llm

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

// StateFile keeps states, vectors of one width, by key on disk. Several processes may share it (records.go). A state that can not be
// trusted is not there, and a file that can not be written is told by Failure.
//
// Its header is, little-endian:
//
//	 0  "CORASTAT"
//	 8  uint32    version, 1
//	12  uint32    width
//	16  [32]byte  SHA-256 of what the states are made by
//	48  28 bytes  0
//	76  uint32    CRC-32C of bytes 0..75
//
// A record's n is 0 and its values are the state as float32.
type StateFile struct {
	file  *records
	width int
}

// OpenStates opens or makes a file of at most limit bytes. made names all that the states depend on, beside the key.
func OpenStates(path, made string, width int, limit int64) (*StateFile, error) {
	le := binary.LittleEndian
	header := le.AppendUint32(le.AppendUint32([]byte("CORASTAT"), 1), uint32(width))
	sum := sha256.Sum256([]byte(made))
	header = append(append(header, sum[:]...), make([]byte, 28)...)
	header = le.AppendUint32(header, crc32.Checksum(header, castagnoli))
	r, err := openRecords(path, header, limit, func(int) int64 { return int64(4 * width) })
	if err != nil {
		return nil, err
	}
	return &StateFile{r, width}, nil
}

// Get returns the state [width] of a key, nil where there is none.
func (s *StateFile) Get(key [32]byte) []float32 {
	e := entry{data: make([]float32, s.width)}
	if !s.file.get(key, func(int) [][]byte { return e.memory() }) {
		return nil
	}
	e.swap()
	return e.data
}

// Put keeps a state [width].
func (s *StateFile) Put(key [32]byte, state []float32) {
	e := entry{data: state[:s.width]}
	s.file.put(key, 0, e.littleEndian())
}

// Failure is why nothing is kept any more, or nil.
func (s *StateFile) Failure() error { return s.file.failure() }

// Close closes the file.
func (s *StateFile) Close() error { return s.file.close() }
