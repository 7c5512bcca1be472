//go:build !unix

package llm

import "os"

// lockFile has no lock here: two processes that share a cache folder may overwrite each other's records, which keys and checksums
// find and which are then computed again.
func lockFile(*os.File) error { return nil }

func unlockFile(*os.File) {}
