// Package console prints for a person on a terminal and for a program everywhere else: a progress bar or log lines, an indented
// summary or one JSON line.
//
//	bar := console.NewProgress(log, "read catalogue")
//	bar.Set(done, total)
package console
