// Package cluster runs the two roles of `corastream run`: a ShardHost owns shards and learns, a Replica follows all shards and knows
// which answers it owes.
//
// It promises that a shard has one writer (its changelog says who), that an event counts once whatever dies, and that a request is
// answered by the process that its partition belongs to. It refuses processes of one cluster whose configurations differ in shards, CF
// model or content basis. Processes meet in Kafka alone.
//
//	h, err := cluster.OpenShardHost(cluster.Deps{Data: dir, Kafka: kafka, Store: st, CF: cf, Mix: mix, Bias: bias, Member: "a", Log: log})
//	defer h.Close()
//	err = h.Run(ctx) // until ctx ends or a shard fails
package cluster
