// Package llm is the frozen LLM: it reads items once, scores prompts with a different low-rank delta for every (user, item),
// and gives gradients to those deltas. Models are GGUF files of the architectures in families (traits.go).
//
// A delta is y = Wx + (alpha/r) P^T (W_A^T x) (CoRA, Liu et al., AAAI 2025, section 3.3), made as two thin products over the
// batch: nothing is merged, so every prompt of a batch has its own W_A while P and the frozen weights stay where they are.
// Where it acts is the projection's Adapt: all tokens, those from the candidate's title on, or the answer token alone.
//
// It promises:
//   - What no delta reaches is computed once: prompts of a call share the rows of their common beginning, below the lowest
//     adapted layer all of them, above it those before the adapted tokens.
//   - With item prompts (no history) and `adapt: last` in the top layers, an item is read once for all users: its keys, values
//     and state are cached by content, in memory and in CacheDir, and a score is one token through the top layers.
//   - A score does not depend on the batch it is in, nor a reading on the other items: equal input, equal bytes, on one kernel
//     level and whatever the number of threads.
//   - Numerics are chosen once: by default int8 for a file of K-quants, else bf16 where the CPU multiplies it, else f32. Whatever is cached is kept apart by them.
//     With CacheDir, packed weights are kept too: a next start maps them, and does not hash the model file again.
//   - Conversations (Speak) are written as the model's family writes them, messages as plain text whatever they spell. Deltas of
//     `adapt: all` and `suffix` act on every token, of `last` on each token that the next one is read behind.
//   - Titles are text: no title can end its line, hide characters, spell a control token or a second answer mark.
//
// It refuses, by name: files of other architectures, with shapes that do not fit or with a tensor that nothing reads, weights and projections made for another
// model, a target whose input is not as wide as W_A has rows (down always; o where heads*headDim differs from hidden), and
// templates without a title or an answer mark.
//
//	m, err := llm.Open("model.gguf", llm.Default())
//	if err != nil { ... }
//	defer m.Close()
//	states, err := m.Encode(ctx, items)                         // once for each item
//	logits, err := m.Score(ctx, prompts, weights, projection)   // corastream.Scorer
//	grads, err := m.Backward(ctx, prompts, weights, projection, labels)
//
// Files: model.go (Open, Info), chat.go, generate.go and sample.go (conversations), arch.go, traits.go (what families add to Llama's layer) and weights.go (from file to matrices), packed.go and digest.go (what a
// start leaves for the next), template.go and prompt.go (text to tokens),
// trie.go and rowset.go (which rows there are, what attends to what), forward.go and delta.go (a layer), score.go (the paths of
// a score), items.go, entry.go, cache.go and cachefile.go (what is kept of an item), backward.go and backward_layer.go;
// gpu.go (the model on a device), gpu_pages.go (the item cache there), gpu_plan.go (what attends to what), gpu_pass.go, gpu_tape.go and
// gpu_back.go (the same passes there).
package llm
