package corastream

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
)

// FieldEmbedding is the plain field that holds an item's own vector, as PackEmbedding writes it.
const FieldEmbedding = "embedding"

// MaxEmbedding bounds the numbers of an item's own vector.
const MaxEmbedding = 4096

// PackEmbedding writes a vector as text: each number as a whole multiple of a 127th of the largest, one signed byte each, in base64.
// Its length is lost, since vectors are compared by their direction. It refuses a vector that is empty, too long, all zero or not
// finite.
func PackEmbedding(v []float64) (string, error) {
	if len(v) == 0 || len(v) > MaxEmbedding {
		return "", fmt.Errorf("an embedding has 1 to %d numbers, not %d", MaxEmbedding, len(v))
	}
	top := 0.0
	for i, x := range v {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return "", fmt.Errorf("number %d of the embedding is not finite", i)
		}
		top = max(top, math.Abs(x))
	}
	if top == 0 {
		return "", fmt.Errorf("all %d numbers of the embedding are 0", len(v))
	}
	b := make([]byte, len(v))
	for i, x := range v {
		b[i] = byte(int8(math.RoundToEven(x / top * 127)))
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

// UnpackEmbedding reads what PackEmbedding wrote: whole numbers from -127 to 127, nil for any other text.
func UnpackEmbedding(text string) []int8 {
	if len(text) == 0 || len(text) > 4*(MaxEmbedding/3+1) || strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || len(b) > MaxEmbedding {
		return nil
	}
	v, any := make([]int8, len(b)), false
	for i, x := range b {
		v[i] = int8(x)
		any = any || x != 0
		if v[i] == -128 {
			return nil
		}
	}
	if !any {
		return nil
	}
	return v
}
