// Package devbroker is the broker inside the binary: a Kafka-compatible server (franz-go's kfake) with its log in a data
// folder, so that corastream runs with nothing else installed.
//
// It promises: what a producer was told is stored is there after a restart or a kill -9 of the process, and with
// SyncWrites after power loss too; a topic, once made, keeps its id; one process owns a data folder, and any other finds
// that process's address there. It refuses: a folder that another process holds, and any listener but the loopback one. It
// is for one machine: there is no replication, and message.timestamp.type is not acted on (a record's time is its producer's).
//
//	b, err := devbroker.Start(devbroker.Options{Dir: "data/broker", Topics: []devbroker.Topic{{Name: "clicks", Partitions: 4}}})
//	if err != nil { ... }
//	defer b.Close()
//	// b.Addr() is a bootstrap address; another process gets it from devbroker.Find("data/broker").
package devbroker
