// Package adapter lays the weights of a user, or of a pair, out as a LoRA adapter that other LLM servers load: a PEFT folder and a
// GGUF for llama.cpp.
//
// It promises that a server with the same base model in the same precision finds the score recorded in corastream.json, and that a
// folder is written file by file with the note last. It refuses a folder that holds anything else than an earlier export, an answer
// with foreign file names, and a user's part where every pair has weights of its own.
//
//	d := adapter.Deps{Active: inUse, Store: st, Predictor: cf, LLM: m, History: 20, Base: "model.gguf"}
//	files, err := d.Adapter(ctx, serve.AdapterRequest{User: "42", Item: "50"})
//	note, err := adapter.Write("out", files)
package adapter
