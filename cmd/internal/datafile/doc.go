// Package datafile reads events and items from files and ranges of topics, as commands take them: CSV, MovieLens' formats, JSON lines,
// plain or packed by gzip.
//
// It promises that a file is understood as the stream would understand the same records, and that a bad row ends the reading with its
// line, the reason and the setting that would mend it. It refuses lines over 16 MiB. It writes nothing.
//
//	events, err := datafile.Events(cfg.Kafka, "clicks.csv", "train")
package datafile
