// Package token turns text into a model's token ids and back, by the vocabulary inside a GGUF file.
//
// Two kinds of vocabulary can be read: byte-level BPE (tokenizer.ggml.model gpt2: SmolLM, Llama 3, Qwen2), with the
// pre-tokenizers that PreTokenizers lists, and SentencePiece BPE (tokenizer.ggml.model llama: Llama 1 and 2, Vicuna,
// Mistral, Gemma), with scores, byte fallback, the space prefix and user-defined runs of white space.
//
// It promises: the ids are those of the published tokenizers and of llama.cpp for the same text (tested on 5,000 texts of many
// scripts). Where those two differ, the published tokenizer counts, because the model was trained with it: Qwen's normal form C,
// and the letters of tekken. Encode
// never returns a control token, whatever the text says, so a title can not end a turn or open another; the time is
// n log n in the text's length; and text beyond MaxTextBytes is not read.
//
// It refuses, with an error that names the file and the key: other tokenizer models, unknown pre-tokenizers, a vocabulary
// with doubles, merges that are malformed or lead outside it, lists of unequal length.
//
//	t, err := token.New(file)
//	ids := t.Encode("Movie: The Third Man (1949)\n#Answer:")
//	if t.AddBOS() {
//		ids = append([]int32{t.BOS()}, ids...)
//	}
//	text := t.Decode(ids)
//
// Bytes that are not UTF-8 are read as U+FFFD, one for each byte, before byte-level BPE; SentencePiece keeps them.
package token
