// Command compare holds our tokenizer and forward pass against what tokenise.py and logits.py wrote.
//
//	go run ./.ci/reference/compare -model M.gguf -tokens FILE.jsonl
//	go run ./.ci/reference/compare -model M.gguf -logits logits-f32.bin
//
// It prints the first differing texts, or the largest difference of the logits in standard deviations of their row, and
// ends with exit code 1 when a text differs or a difference is above -tolerance.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"

	"github.com/corastream/corastream/serve/llm/gguf"
	"github.com/corastream/corastream/serve/llm/token"
)

func main() {
	model := flag.String("model", "", "the GGUF file whose vocabulary is used")
	tokens := flag.String("tokens", "", "JSON lines with text and ids")
	logits := flag.String("logits", "", "the binary file of logits.py")
	tolerance := flag.Float64("tolerance", 1e-3, "largest difference of logits, in standard deviations of the row")
	show := flag.Int("show", 10, "differences to print")
	flag.Parse()
	if *logits != "" {
		worst, err := compareLogits(*model, *logits, *tolerance)
		if err != nil {
			log.Fatal(err)
		}
		if !(worst <= *tolerance) {
			os.Exit(1)
		}
		return
	}
	same, differ, err := compareTokens(*model, *tokens, *show)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d texts identical, %d not\n", *tokens, same, differ)
	if differ > 0 || same == 0 {
		os.Exit(1)
	}
}

func compareTokens(model, tokens string, show int) (same, differ int, err error) {
	f, err := gguf.Open(model)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	t, err := token.New(f)
	if err != nil {
		return 0, 0, err
	}
	in, err := os.Open(tokens)
	if err != nil {
		return 0, 0, err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var row struct {
			Text string
			IDs  []int32
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return same, differ, fmt.Errorf("%s: line %d: %w", tokens, same+differ+1, err)
		}
		if got := t.Encode(row.Text); !slices.Equal(got, row.IDs) {
			if differ++; differ <= show {
				i := 0
				for i < min(len(got), len(row.IDs)) && got[i] == row.IDs[i] {
					i++
				}
				fmt.Printf("%.200q\n  at token %d, after %q\n  want %q\n  got  %q\n", row.Text, i, t.Decode(got[:i]), pieces(t, row.IDs[i:]), pieces(t, got[i:]))
			}
			continue
		}
		same++
	}
	return same, differ, lines.Err()
}

func pieces(t *token.Tokenizer, ids []int32) (list []string) {
	for _, id := range ids[:min(len(ids), 8)] {
		list = append(list, t.Piece(id))
	}
	return list
}
