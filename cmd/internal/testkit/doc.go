// Package testkit holds what several test packages below cmd need: waiting, files, JSON over HTTP, and the models of the
// repository. No program imports it.
package testkit
