package node

import (
	"os"
	"path/filepath"
)

// CacheDir is where readings and packed weights are kept when llm.cache_dir does not say: corastream in the user's cache folder
// ($XDG_CACHE_HOME or ~/.cache on Linux), which all data folders share, so that a second one with the same model and catalogue reads
// nothing again. It is llm in the data folder where an earlier start has made that, or where the user's folder can not be written, as
// in a container with a read-only root.
func CacheDir(data string) string {
	own := filepath.Join(data, "llm")
	if info, err := os.Stat(own); err == nil && info.IsDir() {
		return own
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return own
	}
	shared := filepath.Join(user, "corastream")
	if err := os.MkdirAll(shared, 0o755); err != nil {
		return own
	}
	probe, err := os.CreateTemp(shared, "probe.*.part")
	if err != nil {
		return own
	}
	probe.Close()
	os.Remove(probe.Name())
	return shared
}
