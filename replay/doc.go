// Package replay evaluates: it runs a log past the models and says how well each would have ranked.
//
// Every row is scored with what was known before it. In mode static, models learn train alone; in mode prequential, a row is
// learnt after it was scored, once its label's delay is over (Dawid, 1984: test, then train). The models:
//
//	bias           mu + b_u + b_i, constant rate: the yardstick
//	cf             the CF model in use
//	reader         a logistic regression on exactly the generator's inputs and c_i, no LLM (reader.go)
//	llm            cora's prompts with W_A = 0
//	cora           the frozen LLM with each pair's own weights
//	cora-shuffled  the same weights, each row with another row's prompt: what the text is worth
//	cora-blank     refitted with one constant prompt: what the CF input alone is worth
//
// It promises: a label is never known to a row of the same time or earlier; all models see the same rows; intervals draw whole
// users, differences are paired; equal runs give equal bytes of report.json but for its "timing". It refuses: a data file with a
// missing column or a bad field (the error names file, line, column and the fix), a model whose parts are not there, a score
// that is not a number.
//
//	read := replay.Reading{Decoder: decode.New(decode.Default())}
//	items, err := read.Items("items.csv")
//	train, err := read.Events("train.csv", "train")
//	valid, err := read.Events("valid.csv", "valid")
//	report, err := replay.Run(ctx, replay.Default(), replay.Data{Items: items, Train: train, Valid: valid}, deps)
//	err = report.Write("out") // out/report.json, out/report.html
//
// A Monitor is the same evaluation on a running stream.
package replay
