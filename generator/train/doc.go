// Package train fits a generator and its projection P through the frozen LLM.
//
// The recipe: read the catalogue once; learn CF over the first part of the log; walk the rest predicting before learning, so
// that every training row carries the embeddings from *before* its own label (embeddings that saw the label ruin it); start the
// linear path at a ridge decoder from the LLM's states to [c_i, 1]; distil the CF score over swapped users (row r's prompt and item,
// another row's user: nothing can be memorised by prompt); then learn labels, half the rows still swapped. The newest part of
// the training log decides when to stop; the validation rows are looked at once, for the report.
//
// It promises: one seed, one checkpoint, byte for byte, also when a run was killed and resumed in between; the best epoch is
// what comes out. Steps made on a device are deterministic too, in bfloat16: another engine's run ends in other last digits, and a run that
// loses its device goes on with the CPU (device.go). It refuses a state file of another run, a log that is too short, and losses that are not numbers.
//
//	ckpt, report, err := train.Run(ctx, cfg, train.Data{Train: events, Valid: later, Items: items}, deps, show)
//	if err != nil {
//		return err
//	}
//	fmt.Println(report.Valid["cora"].AUC, report.Valid["cf"].AUC)
package train
