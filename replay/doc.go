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
//	mix            a corastream.Ranker: it learns what is taken next, and gives lists alone (mix.go). Of text it knows titles
//	words          mix with the words of titles and fields
//	all            words and the LLM's part: the list that is served
//
// cora is also a list model, mix and the LLM's part: its next-item figures are those of the list, with a checkpoint and without. Without
// one it has no score for a row. cora-shuffled has each item's code at another item.
//
// What a list is worth comes first in a report (Next): before each positive row, all items that its user may be shown are ranked, and
// the row's item has a place among them. In task unseen these are the items that the user had not met, and a row whose item was met
// is left out; in task all they are all items. The log alone says what was met, so every model and delay is asked the same.
//
// It promises: a label is never known to a row of its own user and time, nor to an earlier one, and with a delay not before it is over; all models see the same rows; intervals draw whole
// users, differences are paired; equal runs give equal bytes of report.json but for its "timing". It refuses: a data file with a
// missing column or a bad field (the error names file, line, column and the fix), a model whose parts are not there, a score
// that is not a number.
//
//	read := replay.ReadOptions{Decoder: decode.New(decode.Default())}
//	items, err := read.Items("items.csv")
//	train, err := read.Events("train.csv", "train")
//	valid, err := read.Events("valid.csv", "valid")
//	report, err := replay.Run(ctx, replay.Default(), replay.Data{Items: items, Train: train, Valid: valid}, deps)
//	err = report.Write("out") // out/report.json, out/report.html
//
// A Monitor is the same evaluation on a running stream.
package replay
