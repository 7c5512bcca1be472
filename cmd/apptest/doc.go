// Package apptest holds the tests that start the program as a person or a script would: real binaries, brokers and disks, real
// files, and signals. They need minutes, so they are built with the tag `app` alone:
//
//	go test -tags app ./cmd/apptest -run TestExamplesRun
//
// `make test` runs all of them.
package apptest
