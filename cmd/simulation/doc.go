// Package simulation runs the real pipeline in a world that is all its own: a broker that repeats, delays, fails and loses
// its log, a disk that fails, a language model that breaks, clocks that jump, and a process that dies between any two
// steps. It holds tests alone.
//
// The real parts are corastream.Pipeline with its three goroutines, the store on Badger, the CF model, the retriever and
// the decoder with its dead letters. Every call from the pipeline to a stage is a step: the goroutine stops there until
// the scheduler lets it go on, one at a time, in an order drawn from the seed (testing/synctest tells when all of them
// stand still). So a seed decides everything, and the same seed gives the same trace, byte by byte.
//
//	make simulate SEEDS=20 EVENTS=5000
//	CORASTREAM_SEED=7 CORASTREAM_EVENTS=5000 go test ./cmd/simulation -run TestSimulation -v    # what a failure prints
//	CORASTREAM_TRACE=trace.txt ...                                                          # every step, to read
package simulation
