//go:build !failpoint

package corastream

// Failpoint marks a place in the flow at which the crash tests kill the process or have it fail. It does nothing, and
// costs nothing, but in a binary built with the tag `failpoint`: the compiler leaves out what this returns and the branch
// on it. docs/develop/reliability.md lists the places.
func Failpoint(string) error { return nil }

// FailpointLimit is n. In a binary built with the tag `failpoint` the environment may lower it.
func FailpointLimit(_ string, n int) int { return n }
