//go:build app

package apptest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/corastream/corastream/ingest/devbroker"
)

// smallDisk mounts a tmpfs of so many MiB, which only root may.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("a full disk is NOT tested: mounting a small tmpfs needs root (%v)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast fills the disk until so many bytes are free, as another program would.
func ballast(t *testing.T, dir string, leave int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); free(t, dir) > leave; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// How a disk gets full.
const (
	byOthers  = iota // another program writes until learning waits
	toTheLast        // it goes on until nothing is left
	byGrowth         // the store's own growth; the disk grows then
	diskKinds
)

// TestAFullDiskPausesLearningAndNothingElse fills a small disk under a running `up`: learning waits at the reserve, reads are
// answered, readiness says why; the process lives, even when nothing at all is left, and goes on by itself when there is
// space again.
func TestAFullDiskPausesLearningAndNothingElse(t *testing.T) {
	t.Parallel()
	runs, seed := dose(t, "DISK", byGrowth) // which takes its time
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	r := rand.New(rand.NewPCG(seed, 51))
	for run := range runs {
		d := fullDisk(t, b.Addr(), run%diskKinds == byGrowth, seed+uint64(run))
		at := -1
		eventually(t, "the batch that was on its way to land", func() bool {
			was := at
			at = counter(d.url, "corastream_events_total")
			time.Sleep(300 * time.Millisecond)
			return at == was
		})
		d.h.feed(t, d.w, 500)
		if run%diskKinds == toTheLast {
			ballast(t, d.dir, 0)
		}
		time.Sleep(time.Duration(1500+r.IntN(1000)) * time.Millisecond)
		d.alive(t)
		// Merging tables may give back what growth took; then learning goes on until it is gone again.
		if now := counter(d.url, "corastream_events_total"); now != at && !d.grown {
			t.Errorf("run %d: %d events were learnt below the reserve", run, now-at)
		}
		if code, _ := fetchJSON(t, "POST", d.url+"/v1/recommend", `{"user_id":"u1","n":3}`); code != http.StatusOK {
			t.Errorf("run %d: a read was answered with %d", run, code)
		}
		d.makeRoom(t)
		eventually(t, "learning again", func() bool {
			d.alive(t)
			return counter(d.url, "corastream_events_total") >= at+200 && readyWith(t, d.url, "")
		})
		t.Logf("run %d: paused at %d events, %d after", run, at, counter(d.url, "corastream_events_total"))
		d.up.kill()
		d.mustAgree(t)
	}
}

// TestADiskTakenToTheLastByteLosesNothing: another program takes even the reserve while tables are being merged. Badger
// writes tables through memory maps, so the kernel may end the process (SIGBUS); nothing must be lost by it.
func TestADiskTakenToTheLastByteLosesNothing(t *testing.T) {
	if !long() {
		t.Skip("`make crash` runs this")
	}
	t.Parallel()
	runs, seed := dose(t, "DISK", 1)
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	died := 0
	for run := range runs {
		d := fullDisk(t, b.Addr(), true, seed+uint64(run))
		ballast(t, d.dir, 0)
		d.h.feed(t, d.w, 500)
		if d.up.ends(2 * time.Second) {
			died++
			t.Logf("run %d: %s", run, faultOf(d.up.stderr()))
		}
		d.makeRoom(t)
		d.up.kill()
		d.mustAgree(t)
	}
	t.Logf("%d runs, the process died in %d", runs, died)
}

// faultOf is where a process that a signal ended was: the frames of the first goroutine in its last words.
func faultOf(stderr string) string {
	_, stack, found := strings.Cut(stderr, "[signal ")
	if !found {
		return tailOf(stderr, 500)
	}
	var frames []string
	for _, line := range strings.Split(stack, "\n") {
		if i := strings.LastIndexByte(line, '('); i > 0 && !strings.HasPrefix(line, "\t") && strings.Contains(line, ".") {
			frames = append(frames, line[:i])
		}
		if len(frames) == 8 {
			break
		}
	}
	return strings.Join(frames, " < ")
}

// disk is a small one on which `up` has just paused.
type disk struct {
	dir   string
	grown bool
	h     *home
	w     *workload
	up    *process
	url   string
}

// fullDisk starts `up` on a small disk and fills it to the reserve: by the store's own growth, or by another file.
func fullDisk(t *testing.T, brokers string, grown bool, seed uint64) *disk {
	t.Helper()
	const reserve = 32 << 20
	d := &disk{dir: smallDisk(t, 96), grown: grown, h: newHome(t, brokers, noLLM), w: newWorkload(seed, 300, 150)}
	d.h.ungrouped(t)
	data := filepath.Join(d.dir, "data")
	d.h.amend(t, "data: "+d.h.data, "data: "+data)
	d.h.data = data
	d.h.amend(t, "memory_limit_bytes: 67108864, reserve_bytes: 67108864", fmt.Sprintf("memory_limit_bytes: %d, reserve_bytes: %d", reserve, reserve))
	if grown { // wide vectors of many users
		d.h.amend(t, "factors: 8}", "factors: 256}")
		d.w.users = 40000
	}
	d.up = d.h.up(t)
	d.url = d.up.url(t)
	d.h.feedItems(t, d.w, d.w.items)
	d.h.feed(t, d.w, 1500)
	eventually(t, "some events", func() bool { return counter(d.url, "corastream_events_total") >= 300 })
	stopped := func() bool { d.alive(t); return strings.Contains(d.up.stderr(), "writes wait") }
	if !grown {
		ballast(t, d.dir, reserve-1<<20)
		d.h.feed(t, d.w, 500)
	}
	for n := 1; grown && !stopped(); n++ {
		if n > 60 {
			t.Fatalf("%d bytes are free after %d portions\n%s", free(t, d.dir), n, tailOf(d.up.stderr(), 1500))
		}
		before := counter(d.url, "corastream_events_total")
		d.h.feed(t, d.w, 2000)
		eventually(t, "the portion", func() bool { return stopped() || counter(d.url, "corastream_events_total") > before+1500 })
	}
	eventually(t, "the pause", func() bool { return stopped() && !readyWith(t, d.url, "disk is almost full") })
	return d
}

func (d *disk) alive(t *testing.T) {
	t.Helper()
	if !d.up.running() {
		t.Fatalf("up ended, with %d bytes free\n%s", free(t, d.dir), tailOf(d.up.stderr(), 3000))
	}
}

// makeRoom frees what the other program took; a disk that the store filled gets larger.
func (d *disk) makeRoom(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "ballast")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if d.grown {
		if err := syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size=512m"); err != nil {
			t.Fatal(err)
		}
	}
}

// mustAgree lets `up` finish, and holds the state against the log and a re-run of it.
func (d *disk) mustAgree(t *testing.T) {
	t.Helper()
	d.h.drain(t)
	d.h.exactly(t, d.w)
	if rerun := ok(t, "store", "rerun", "-c", d.h.config).last(t); rerun["equal"] != true {
		t.Errorf("rerun %v", rerun)
	}
}

// readyWith asks /readyz; false when it is not ready for this reason, or nobody answers.
func readyWith(t *testing.T, url, why string) bool {
	t.Helper()
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return false
	}
	return resp.StatusCode == http.StatusOK || !strings.Contains(string(b), why)
}
