// Package corastream is the vocabulary and the pipeline of a recommender whose language model learns from every click.
//
// Interaction events come in on a Kafka topic; a collaborative-filtering (CF) model's embeddings move with each of them;
// a generator turns moved embeddings into fresh low-rank weights W_A (CoRA, Liu et al., AAAI 2025, section 3); a frozen
// LLM scores each prompt with those weights merged in; recommendations go out on a topic. Nothing is retrained in between.
//
// Start with pipeline.go: the whole flow can be read there. This package holds the types that stages exchange (types.go),
// the errors that callers decide on (errors.go), the interfaces through which stages meet (pipeline.go) and the in-memory
// state used by replay and training (memory.go). It imports the standard library alone; the stages (ingest, store,
// cfstream, generator, serve, replay) import it and never each other; cmd/corastream wires them together.
//
// It promises: an event is learnt exactly once in effect, its offset and its effect on every embedding are one
// transaction; the LLM's pace never holds the log back; equal events in equal order give equal bytes of state. It
// refuses: to skip a gap in the log, to guess at a corrupt record, to publish a NaN score.
package corastream
