package node

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestCacheDirIsSharedUnlessItCanNotBe: the user's cache folder, or llm in the data folder where it is already, or where the former is
// no folder.
func TestCacheDirIsSharedUnlessItCanNotBe(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the user's cache folder is named in other ways")
	}
	home, data := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	shared, own := filepath.Join(home, "corastream"), filepath.Join(data, "llm")
	if got := CacheDir(data); got != shared {
		t.Errorf("%s, want %s", got, shared)
	}
	if left, err := os.ReadDir(shared); err != nil || len(left) != 0 {
		t.Errorf("%v, %v: something is left of the probe", left, err)
	}
	file := filepath.Join(home, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", file)
	if got := CacheDir(data); got != own {
		t.Errorf("the user's folder can not be made: %s, want %s", got, own)
	}
	t.Setenv("XDG_CACHE_HOME", home)
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := CacheDir(data); got != own {
		t.Errorf("the data folder has one: %s, want %s", got, own)
	}
}
