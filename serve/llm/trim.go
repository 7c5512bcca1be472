package llm

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// cached files by their names, and what a killed process may have left of one.
var cachedFiles = []string{"packed-*.w", "items-*.kv", "answers-*.f32", "states-*.f32"}

// trimCache removes the cache's files that were opened or written longest ago, until the rest has at most limit bytes. Those of the
// last hour stay: this process may just have made them. Parts of files that were never finished go after a day. A process that has a
// removed file open goes on with it. Failures are no matter: the next start tries again.
func trimCache(dir string, limit int64, now time.Time) {
	parts, _ := filepath.Glob(filepath.Join(dir, "*.part"))
	for _, p := range parts {
		if info, err := os.Stat(p); err == nil && now.Sub(info.ModTime()) > 24*time.Hour {
			_ = os.Remove(p)
		}
	}
	type file struct {
		path string
		info fs.FileInfo
	}
	var files []file
	total := int64(0)
	for _, pattern := range cachedFiles {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				files = append(files, file{p, info})
				total += info.Size()
			}
		}
	}
	slices.SortFunc(files, func(a, b file) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	for _, f := range files {
		if total <= limit || now.Sub(f.info.ModTime()) < time.Hour {
			return
		}
		if os.Remove(f.path) == nil {
			total -= f.info.Size()
		}
	}
}
