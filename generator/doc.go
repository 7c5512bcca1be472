// Package generator turns collaborative-filtering embeddings into the low-rank weight W_A that a frozen LLM adds to its own
// (CoRA, Liu et al., AAAI 2025, section 3.2), on the CPU, batched, versioned and cached.
//
// Two kinds are built from a Spec: `mlp`, small and as good in our measurements, and `qformer`, the paper's. Two ways to
// feed them: `inputs: user` sees the user's taste and the biases alone, so that everything known of the item's content has
// to come through the LLM's own states and one matrix serves all of a user's candidates; `inputs: paper` sees
// concat(e_u, e_i). A linear path, started at a ridge decoder of the LLM's states, carries the taste into W_A.
//
// A Checkpoint holds the generator, the projection P of every adapted layer and the content Basis in one safetensors file,
// with the digests of what it was made for. It promises that loading gives the bytes that were trained, bit for bit; it
// refuses by name a checkpoint of another LLM, prompt template, CF spec or basis (corastream.ErrMismatch), and bounds
// whatever it allocates while it reads a file.
//
//	ckpt, err := generator.Open("demo.safetensors", generator.Want{LLM: llm.Digest, Template: llm.Template})
//	if err != nil {
//		return err // names the key that differs
//	}
//	stage, err := generator.NewStage(ckpt, generator.DefaultStageConfig())
//	weights, projection, err := stage.Weights(ctx, pairs)
//
// Package generator/train fits one through the frozen LLM.
package generator
