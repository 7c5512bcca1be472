//go:build app

package apptest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/corastream/corastream/ingest/devbroker"
)

// TestABrokerThatGoesAwayLosesNothing takes the broker away from a running `up` again and again: the embedded kind is cut
// and started again on its folder, Apache Kafka is killed with SIGKILL and started again, or stopped for a while as by a
// network that is cut. `up` lives through all of it, says so in /readyz, and catches up.
func TestABrokerThatGoesAwayLosesNothing(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		o := devbroker.Options{Dir: t.TempDir()}
		b, err := devbroker.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		address := b.Addr()
		o.Port, err = strconv.Atoi(address[strings.LastIndexByte(address, ':')+1:])
		if err != nil {
			t.Fatal(err)
		}
		outages(t, address, func(string, int) func() {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return func() {
				if b, err = devbroker.Start(o); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
	t.Run("kafka", func(t *testing.T) {
		// A broker of its own: other tests use the one that CORASTREAM_KAFKA names.
		jars := os.Getenv("CORASTREAM_KAFKA_DIR")
		if _, err := os.Stat(filepath.Join(jars, "libs")); jars == "" || err != nil {
			t.Skip("set CORASTREAM_KAFKA_DIR, a folder given to .ci/kafka/kafka.sh, to kill Apache Kafka too")
		}
		t.Parallel()
		dir, port := t.TempDir(), freePort(t)
		for _, name := range []string{"libs", "libs.of"} {
			if err := os.Symlink(filepath.Join(jars, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		script := func(action string) {
			cmd := exec.Command(filepath.Join("..", "..", ".ci", "kafka", "kafka.sh"), action, dir)
			cmd.Env = append(os.Environ(), fmt.Sprint("KAFKA_PORT=", port))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("kafka.sh %s: %v\n%s", action, err, out)
			}
		}
		t.Cleanup(func() { script("stop") })
		script("start")
		signal := func(s syscall.Signal) {
			b, err := os.ReadFile(filepath.Join(dir, "broker.pid"))
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err == nil {
				err = syscall.Kill(pid, s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		outages(t, fmt.Sprint("127.0.0.1:", port), func(_ string, n int) func() {
			if n%4 == 3 { // not a byte goes either way, and no connection is closed
				signal(syscall.SIGSTOP)
				return func() { signal(syscall.SIGCONT) }
			}
			signal(syscall.SIGKILL)
			return func() { script("start") }
		})
	})
}

// outages has a broker go away, by away, whose result brings it back, while a stream flows.
func outages(t *testing.T, address string, away func(address string, n int) func()) {
	times, seed := dose(t, "BROKER", 1)
	r := rand.New(rand.NewPCG(seed, 61))
	h := newHome(t, address, noLLM)
	w := newWorkload(seed, 200, 150)
	up := h.up(t)
	url := up.url(t)
	h.produce(t, "items", itemLines(0, w.items)...)
	send(t, h.address(), &kgo.Record{Topic: h.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
	for n := range times {
		before := counter(url, "corastream_events_total")
		producer := h.producing(t, "interactions", 3000, w.lines(1500)...)
		from := before + 1 + r.IntN(800)
		eventually(t, "the stream", func() bool { return counter(url, "corastream_events_total") >= from })
		back := away(address, n)
		eventually(t, "/readyz to say that the broker is away", func() bool {
			return !readyWith(t, url, `"name":"broker","ok":false`) || !readyWith(t, url, `"name":"sink","ok":false`)
		})
		pause := time.Duration(r.IntN(500)) * time.Millisecond
		if long() && n == 0 {
			pause = 30 * time.Second
		}
		time.Sleep(pause)
		back()
		if res := producer.wait(t); !res.sent() {
			t.Fatalf("produce: exit %d\n%s", res.code, res.stderr)
		}
		eventually(t, "the stream again", func() bool { // all of it: the next outage must find a producer that has begun
			if !up.running() {
				t.Fatalf("outage %d: up ended\n%s", n, up.stderr())
			}
			return counter(url, "corastream_events_total") >= w.good() && readyWith(t, url, "")
		})
		t.Logf("outage %d", n+1)
	}
	up.signal(syscall.SIGTERM)
	if res := up.wait(t); res.code != 0 {
		t.Fatalf("up: exit %d\n%s", res.code, res.stderr)
	}
	h.mustAgree(t, w, nil, "")
}

// TestASlowOrDeadSinkIsWaitedFor: while recommendations can not be written, learning goes on and debts coalesce; while dead
// letters can not, learning stops rather than pass one by. Neither makes the process grow, /readyz says so, and all is made
// up for when the topic takes records again.
func TestASlowOrDeadSinkIsWaitedFor(t *testing.T) {
	t.Parallel()
	rounds := 6
	if long() {
		rounds = 60
	}
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	var dead, slow atomic.Value // a topic's name, "" for none
	dead.Store("")
	slow.Store("")
	b.Kafka().ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.Kafka().KeepControl()
		in := req.(*kmsg.ProduceRequest)
		for _, topic := range in.Topics {
			switch topic.Topic {
			case "":
			case slow.Load():
				b.Kafka().SleepControl(func() { time.Sleep(100 * time.Millisecond) })
			case dead.Load():
				return refusal(in), nil, true
			}
		}
		return nil, nil, false
	})
	h := newHome(t, b.Addr(), noLLM)
	w := newWorkload(5, 200, 150)
	up := h.up(t)
	url := up.url(t)
	h.feedItems(t, w, w.items)
	send(t, h.address(), &kgo.Record{Topic: h.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
	eventually(t, "the catalogue", func() bool { return counter(url, "corastream_dead_letters_total") != 0 })

	for _, mode := range []*atomic.Value{&slow, &dead} {
		mode.Store(h.topics.recommendations)
		h.feed(t, w, 2000)
		eventually(t, "learning", func() bool { return counter(url, "corastream_events_total") == w.good() })
		if mode == &dead {
			eventually(t, "/readyz to name the sink", func() bool { return !readyWith(t, url, `"name":"sink","ok":false`) })
		}
		grown := rss(t, up)
		for range rounds {
			h.feed(t, w, 2000)
			eventually(t, "learning", func() bool { return counter(url, "corastream_events_total") == w.good() })
		}
		notGrown(t, up, grown)
		mode.Store("")
	}

	dead.Store(h.topics.letters)
	h.feed(t, w, 2000)
	eventually(t, "/readyz to name the sink", func() bool { return !readyWith(t, url, `"name":"sink","ok":false`) })
	at, grown := counter(url, "corastream_events_total"), rss(t, up)
	for range 4 * rounds {
		h.feed(t, w, 2000)
	}
	if now := counter(url, "corastream_events_total"); now != at || now == w.good() {
		t.Errorf("%d events were learnt while dead letters could not be written", now-at)
	}
	notGrown(t, up, grown)
	dead.Store("")
	eventually(t, "learning", func() bool { return counter(url, "corastream_events_total") == w.good() && readyWith(t, url, "") })
	up.kill()
	h.mustAgree(t, w, nil, "")
}

// refusal is what a broker answers that has too few replicas in sync.
func refusal(in *kmsg.ProduceRequest) kmsg.Response {
	out := in.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range in.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = topic.Topic
		for _, p := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.NotEnoughReplicas.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		out.Topics = append(out.Topics, rt)
	}
	return out
}

// rss is the process's resident memory in bytes; 0 where there is no /proc.
func rss(t *testing.T, p *process) int64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil && runtime.GOOS != "linux" {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int64
		if n, _ := fmt.Sscanf(s.Text(), "RssAnon: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	t.Fatal("no RssAnon in /proc")
	return 0
}

// notGrown allows for the state itself, which grows by what is learnt, and for the collector's pace.
func notGrown(t *testing.T, p *process, before int64) {
	t.Helper()
	now := rss(t, p)
	t.Logf("resident: %d MiB, then %d MiB", before>>20, now>>20)
	if now > 2*before+64<<20 {
		t.Errorf("resident memory grew from %d to %d MiB", before>>20, now>>20)
	}
}
