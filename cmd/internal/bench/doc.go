// Package bench measures what the program does: events learnt in transactions, weights made, prompts scored, and the time from a
// click to its recommendation.
//
// It promises one JSON line for each case, written as soon as the case is over, with a warm-up that is not counted. It invents its
// data, so equal builds measure equal work. It refuses a case it does not know, and a measurement whose model or checkpoint is missing.
// The caller opens stages and hands them in as Deps, or, for freshness, as a Loop that already runs.
//
//	err := bench.Learn(ctx, bench.Deps{CF: cfstream.Default(), Store: store.Default()}, os.Stdout, 3*time.Second)
package bench
