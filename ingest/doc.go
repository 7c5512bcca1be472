// Package ingest is the way in and out: Kafka topics on one side, corastream's events, items, requests, recommendations
// and dead letters on the other.
//
// It promises: a partition is read from the offset that the store hands in, in order, without a hole; a record that can
// not be used becomes a dead letter with its bytes, a reason and its position, and never stops the stream; Publish, Bury
// and a Producer return when every in-sync replica has the records; a broker that goes away is waited for. It refuses: to
// read on past a gap (corastream.ErrGap), a topic that was made anew or another cluster under the same address; PLAIN
// without TLS unless told so; to skip TLS verification.
//
// For a cluster, a Changelog is one shard's log, which also arbitrates who owns the shard; a ParcelSink sends what one shard learnt for
// another; JoinMembers shares the shards out (docs/reference/format.md, "The topics of a cluster").
//
// Why it does not use kafka-go's Reader: that one skips forward silently when retention has passed the wanted offset,
// waits for ever when the log ends before it, hands out what an aborted transaction wrote, does not check batches'
// checksums and takes the producer's time where the broker stamped its own. So kafka-go brings connections' requests,
// SASL, compression, the consumer group, the writer and the admin calls; tail.go, fetch.go and records.go read.
//
//	src, err := ingest.NewSource(ctx, cfg, ingest.Hooks{Next: store.Next, Meta: store.Meta, SetMeta: store.SetMeta})
//	for {
//		batch, err := src.Next(ctx) // up to MaxBatchEvents, or what came meanwhile
//		...                         // commit it with its spans
//		src.Committed(batch.Spans)  // for lag tools
//	}
package ingest
