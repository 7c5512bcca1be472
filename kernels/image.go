package kernels

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// Image gives the form ("f32", "bf16", "int8", "q4_1", "k") and the memory of a packed matrix, so that it can be kept on disk and mapped
// back without packing again. The bytes are the matrix's own and must not be changed; their order is this machine's, and the
// layout may change with [ImageVersion], so both belong into the name under which they are kept.
func Image(m Matrix) (form string, image []byte) {
	switch m := m.(type) {
	case *matrixF32:
		return "f32", bytesOf(m.data)
	case *matrixBF16:
		return "bf16", bytesOf(m.data)
	case *matrixInt8:
		return "int8", bytesOf(m.all)
	case *matrixQ4:
		return "q4_1", bytesOf(m.data)
	case *matrixK:
		return "k", bytesOf(m.all)
	}
	panic(fmt.Sprintf("kernels.Image: a %T was not packed here", m))
}

// ImageVersion changes when the layout of an image does.
const ImageVersion = 2

// FromImage makes a matrix of an image of out x in weights. It uses the bytes in place: they must stay as they are while the
// matrix is in use, and begin at a multiple of 4 (of 64 for full speed). It checks sizes, not values: guard those with a
// digest.
func FromImage(form string, out, in int, image []byte) (Matrix, error) {
	if out <= 0 || in <= 0 {
		return nil, fmt.Errorf("image of a matrix of %d x %d", out, in)
	}
	if form == "k" {
		return kFromImage(out, in, image)
	}
	words, per := 0, 0 // words of 32 bits = words for each step of `per` inputs and each column of a panel
	switch form {
	case "f32":
		words, per = 1, 1
	case "bf16":
		words, per = 1, 2
	case "int8":
		words, per = group/4, group
	case "q4_1":
		if words, per = q4Group/panel, group; in%group != 0 {
			return nil, fmt.Errorf("image of a q4_1 matrix of %d inputs: they come in blocks of %d", in, group)
		}
	default:
		return nil, fmt.Errorf("image of form %q (known: f32, bf16, int8, q4_1, k)", form)
	}
	columns := (uint64(out) + panel - 1) / panel * panel
	high, want := bits.Mul64(columns, (uint64(in)+uint64(per)-1)/uint64(per)*uint64(words))
	if form == "int8" {
		want += columns // the scales
	}
	if high != 0 || want != uint64(len(image)/4) || len(image)%4 != 0 {
		return nil, fmt.Errorf("image of %d bytes can not be a %s matrix of %d x %d (fix: remove the cache file)", len(image), form, out, in)
	}
	first := unsafe.Pointer(&image[0])
	if uintptr(first)%4 != 0 {
		return nil, fmt.Errorf("image of a matrix begins at an address that is no multiple of 4")
	}
	if form == "f32" {
		return &matrixF32{out: out, in: in, data: unsafe.Slice((*float32)(first), want)}, nil
	}
	data := unsafe.Slice((*uint32)(first), want)
	switch form {
	case "bf16":
		return &matrixBF16{out: out, in: in, data: data}, nil
	case "int8":
		return newMatrixInt8(data, out, in), nil
	}
	return &matrixQ4{out: out, in: in, data: data}, nil
}

// kFromImage reads the forms of the panels, which say how long the image has to be.
func kFromImage(out, in int, image []byte) (Matrix, error) {
	w := &matrixK{out: out, in: in}
	head := (uint64(out) + panel - 1) / panel
	if in%kBlock != 0 || head > uint64(len(image)/4) || len(image)%4 != 0 || uint64(in/kBlock) > uint64(len(image)) {
		return nil, fmt.Errorf("image of %d bytes can not be a matrix of K-quants of %d x %d (fix: remove the cache file)", len(image), out, in)
	}
	first := unsafe.Pointer(&image[0])
	if uintptr(first)%4 != 0 {
		return nil, fmt.Errorf("image of a matrix begins at an address that is no multiple of 4")
	}
	w.all = unsafe.Slice((*uint32)(first), len(image)/4)
	words, err := w.layout(w.all)
	if err == nil && words != len(w.all) {
		err = fmt.Errorf("image of %d bytes can not be a matrix of K-quants of %d x %d, which takes %d (fix: remove the cache file)", len(image), out, in, 4*words)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

func bytesOf[T float32 | uint32](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}
