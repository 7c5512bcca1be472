package gguf

import (
	"fmt"
	"slices"
	"strings"
)

// Type is a tensor's storage type, with the numbers of the format.
type Type uint32

// The types that can be read. Writer makes F32 to Q8_0; the others only from bytes that are already encoded.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	Q2_K Type = 10
	Q3_K Type = 11
	Q4_K Type = 12
	Q5_K Type = 13
	Q6_K Type = 14

	IQ4_NL Type = 20
	IQ4_XS Type = 23

	BF16  Type = 30
	MXFP4 Type = 39
)

// layout is how a type stores a run of values: block values take bytes bytes.
type layout struct {
	name   string
	block  int
	bytes  int
	decode func(dst []float32, src []byte) // whole blocks
}

var layouts = map[Type]layout{
	F32:  {"F32", 1, 4, decodeF32},
	F16:  {"F16", 1, 2, decodeF16},
	BF16: {"BF16", 1, 2, decodeBF16},
	Q4_0: {"Q4_0", 32, 18, decodeQ4_0},
	Q4_1: {"Q4_1", 32, 20, decodeQ4_1},
	Q5_0: {"Q5_0", 32, 22, decodeQ5_0},
	Q5_1: {"Q5_1", 32, 24, decodeQ5_1},
	Q8_0: {"Q8_0", 32, 34, decodeQ8_0},
	Q2_K: {"Q2_K", 256, 84, decodeQ2_K},
	Q3_K: {"Q3_K", 256, 110, decodeQ3_K},
	Q4_K: {"Q4_K", 256, 144, decodeQ4_K},
	Q5_K: {"Q5_K", 256, 176, decodeQ5_K},
	Q6_K: {"Q6_K", 256, 210, decodeQ6_K},

	IQ4_NL: {"IQ4_NL", 32, 18, decodeIQ4_NL},
	IQ4_XS: {"IQ4_XS", 256, 136, decodeIQ4_XS},
	MXFP4:  {"MXFP4", 32, 17, decodeMXFP4},
}

// others names the types without a decoder, so that a refusal says what the file holds.
var others = map[Type]string{
	9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
	34: "TQ1_0", 35: "TQ2_0", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0",
}

// String is the type's name, such as Q4_1.
func (t Type) String() string {
	if l, ok := layouts[t]; ok {
		return l.name
	}
	if s, ok := others[t]; ok {
		return s
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// BlockSize is how many consecutive values of a row share one block; 0 for a type that can not be read.
func (t Type) BlockSize() int { return layouts[t].block }

// BlockBytes is the size of one block; 0 for a type that can not be read.
func (t Type) BlockBytes() int { return layouts[t].bytes }

// Supported lists the names of the types that can be read.
func Supported() string {
	var types []Type
	for t := range layouts {
		types = append(types, t)
	}
	slices.Sort(types)
	var names []string
	for _, t := range types {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}
