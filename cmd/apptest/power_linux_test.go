//go:build app

package apptest

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/corastream/corastream/ingest/devbroker"
)

// TestPowerLossKeepsWhatWasCommitted: the data folder lies on a file system in an image; at a random moment the image is
// copied as it is, which is what a disk holds whose machine loses power: pages that nobody synced are not in it. On the
// copy every event is there that `up` had counted as learnt, and it goes on from there. (The copy takes milliseconds, in
// which the kernel may write on: a stand-in for a power switch, not one.)
func TestPowerLossKeepsWhatWasCommitted(t *testing.T) {
	if os.Getenv("CORASTREAM_POWER") == "" {
		t.Skip("set CORASTREAM_POWER to a number of losses (`make crash POWER=n`); it needs root, mount and mkfs.ext4")
	}
	losses, seed := dose(t, "POWER", 0)
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	memory := "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		memory = t.TempDir()
	}
	images, err := os.MkdirTemp(memory, "corastream-power")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(images) })
	image, mounted := filepath.Join(images, "disk"), t.TempDir()
	tool("truncate", "-s", "400M", image)
	tool("mkfs.ext4", "-q", image)
	tool("mount", "-o", "loop", image, mounted)
	t.Cleanup(func() { _ = syscall.Unmount(mounted, syscall.MNT_DETACH) })

	h := newHome(t, b.Addr(), noLLM)
	h.ungrouped(t)
	h.amend(t, "data: "+h.data, "data: "+filepath.Join(mounted, "data"))
	h.data = filepath.Join(mounted, "data")
	w := newWorkload(seed, 300, 150)
	r := rand.New(rand.NewPCG(seed, 81))
	h.drain(t)
	h.feedItems(t, w, w.items)
	send(t, b.Addr(), &kgo.Record{Topic: h.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
	kept := 0 // events in the state before
	for loss := range losses {
		up := h.up(t)
		url := up.url(t)
		h.feed(t, w, 3000)
		at := 1 + r.IntN(2000)
		eventually(t, "the stream", func() bool { return counter(url, "corastream_events_total") >= at })
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
		learnt := counter(url, "corastream_events_total")
		up.signal(syscall.SIGSTOP)
		tool("cp", "--sparse=always", image, image+".lost")
		up.kill()
		tool("umount", mounted)
		if err := os.Rename(image+".lost", image); err != nil {
			t.Fatal(err)
		}
		tool("mount", "-o", "loop", image, mounted)
		have := h.eventsKept(t)
		t.Logf("loss %d: %d events were learnt, the disk has %d more than before", loss+1, learnt, have-kept)
		if have-kept < learnt {
			t.Errorf("loss %d: %d events that were learnt are not on the disk", loss+1, learnt-(have-kept))
		}
		h.drain(t)
		kept = h.eventsKept(t)
	}
	h.mustAgree(t, w, nil, "")
}

// eventsKept opens the store and counts what its users' histories hold.
func (h *home) eventsKept(t *testing.T) (n int) {
	t.Helper()
	_, s := h.openStore(t)
	for u, err := range s.Users() {
		if err != nil {
			t.Fatal(err)
		}
		n += len(u.History)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}
