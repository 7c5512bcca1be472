package devbroker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func put(t *testing.T, addr string, values ...string) {
	t.Helper()
	c := client(t, addr)
	for _, v := range values {
		must(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(v)}).FirstErr())
	}
}

func get(t *testing.T, addr string, n int) map[string]bool {
	t.Helper()
	c := client(t, addr, kgo.ConsumeTopics("in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := map[string]bool{}
	for len(out) < n {
		f := c.PollFetches(ctx)
		must(t, ctx.Err())
		f.EachRecord(func(r *kgo.Record) { out[string(r.Value)] = true })
	}
	return out
}

var topics = []Topic{{Name: "in"}, {Name: "one", Partitions: 1, Configs: map[string]string{"cleanup.policy": "compact"}}}

func TestTheLogSurvivesARestart(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync=%v", sync), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Dir: dir, Topics: topics, SyncWrites: sync}
			b, err := Start(o)
			must(t, err)
			put(t, b.Addr(), "a", "b")
			id, cluster := b.Kafka().TopicInfo("in").TopicID, clusterID(t, b.Addr())
			must(t, b.Close())
			must(t, b.Close())
			b, err = Start(o)
			must(t, err)
			defer b.Close()
			if got := get(t, b.Addr(), 2); !got["a"] || !got["b"] {
				t.Errorf("got %v", got)
			}
			info := b.Kafka().TopicInfo("in")
			if info.TopicID != id || len(b.Kafka().PartitionInfos("in")) != 4 || len(b.Kafka().PartitionInfos("one")) != 1 {
				t.Errorf("topic changed: %+v", info)
			}
			if now := clusterID(t, b.Addr()); now != cluster || !strings.HasPrefix(now, "dev-") {
				t.Errorf("cluster %s became %s", cluster, now)
			}
		})
	}
}

func clusterID(t *testing.T, addr string) string {
	t.Helper()
	c := client(t, addr)
	m, err := c.Request(t.Context(), metadataRequest())
	must(t, err)
	return clusterOf(m)
}

func TestOneProcessOwnsAFolderAndOthersFindIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	if _, err := Find(dir); !errors.Is(err, ErrNone) {
		t.Errorf("before: %v", err)
	}
	b, err := Start(Options{Dir: dir})
	must(t, err)
	if _, err := Start(Options{Dir: dir}); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "fix:") {
		t.Errorf("a second one: %v", err)
	}
	if addr, err := Find(dir); err != nil || addr != b.Addr() {
		t.Errorf("found %q, %v", addr, err)
	}
	must(t, b.Close())
	if _, err := Find(dir); !errors.Is(err, ErrNone) {
		t.Errorf("after: %v", err)
	}
	b, err = Start(Options{Dir: dir})
	must(t, err)
	must(t, b.Close())
}

// TestAcknowledgedRecordsSurviveAKill runs the broker in a child process, which is killed in mid-stream.
func TestAcknowledgedRecordsSurviveAKill(t *testing.T) {
	if dir := os.Getenv("DEVBROKER_TEST_DIR"); dir != "" {
		if _, err := Start(Options{Dir: dir, Topics: topics}); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	dir := t.TempDir()
	total := 0
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAcknowledgedRecordsSurviveAKill$")
		cmd.Env = append(os.Environ(), "DEVBROKER_TEST_DIR="+dir)
		must(t, cmd.Start())
		var addr string
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			var err error
			if addr, err = Find(dir); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		var values []string
		for range 20 {
			values = append(values, fmt.Sprint("r", total))
			total++
		}
		put(t, addr, values...)
		must(t, cmd.Process.Kill())
		cmd.Wait()
		if _, err := Find(dir); !errors.Is(err, ErrNone) {
			t.Errorf("a dead process's address is given out: %v", err)
		}
	}
	b, err := Start(Options{Dir: dir, Topics: topics})
	must(t, err)
	defer b.Close()
	if got := get(t, b.Addr(), total); len(got) != total {
		t.Errorf("%d of %d records", len(got), total)
	}
}

func TestAFixedPortAndBadOptions(t *testing.T) {
	b, err := Start(Options{})
	must(t, err)
	addr := b.Addr()
	must(t, b.Close())
	var port int
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil {
		t.Fatalf("address %q is not on the loopback interface: %v", addr, err)
	}
	b, err = Start(Options{Port: port})
	must(t, err)
	defer b.Close()
	if b.Addr() != addr {
		t.Errorf("asked for %s, got %s", addr, b.Addr())
	}
	if _, err := Start(Options{Port: port}); err == nil {
		t.Error("a taken port was given twice")
	}
	if _, err := Start(Options{Port: 70000}); err == nil {
		t.Error("port 70000 was accepted")
	}
}

func metadataRequest() kmsg.Request { return kmsg.NewPtrMetadataRequest() }

func clusterOf(res kmsg.Response) string {
	if id := res.(*kmsg.MetadataResponse).ClusterID; id != nil {
		return *id
	}
	return ""
}
