package store

import (
	"bufio"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

const (
	childDir   = "CORASTREAM_STORE_TEST_DIR" // set: this process is the child of a crash test
	crashParts = 4
	crashEach  = 8000 // events of each partition
	crashItems = 300  // catalogue records
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("done")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func crashConfig() Config {
	c := testConfig()
	c.MemoryLimit, c.MaxDirty, c.HistoryLimit = 32<<20, 400, 70
	return c
}

// child applies the log in batches whose size and order nobody knows beforehand, reads the catalogue and pays debts, until
// all is used up or it is killed.
func child(dir string) error {
	s, err := Open(dir, crashConfig(), withPairs(500))
	if err != nil {
		return err
	}
	ctx := context.Background()
	fmt.Println("open")
	for i := 0; ; i++ {
		spans, err := nextSpans(s)
		if err != nil {
			return err
		}
		if len(spans) > 0 {
			b := batchOf(spans)
			b.Requests = nil
			if _, err := s.Commit(ctx, b, biasLearner); err != nil {
				return err
			}
		}
		unread, err := s.Unread(20)
		if err != nil {
			return err
		}
		if i%3 == 0 || len(spans) == 0 {
			if err := s.Join(ctx, readAll(unread)); err != nil {
				return err
			}
		}
		if owed, err := s.Owed(8); err != nil {
			return err
		} else if err := s.Settle(ctx, owed); err != nil {
			return err
		} else if len(spans) == 0 && len(unread) == 0 && len(owed) == 0 {
			return s.Close()
		}
	}
}

// readAll is what an LLM would make of titles: a function of the text.
func readAll(items []corastream.Item) []corastream.Item {
	for i := range items {
		h := fnv.New64a()
		io.WriteString(h, items[i].Title)
		r := rand.New(rand.NewPCG(h.Sum64(), 1))
		c := make([]float32, 8)
		for k := range c {
			c[k] = float32(r.NormFloat64())
		}
		corastream.QuantizeContent(c)
		items[i].Content = c
	}
	return items
}

// nextSpans draws what a source would read next.
func nextSpans(s *Store) (spans []corastream.Span, err error) {
	for range 1 + rand.IntN(6) {
		p := corastream.Partition{Topic: topic, ID: rand.Int32N(crashParts)}
		end := int64(crashEach)
		if rand.IntN(8) == 0 {
			p, end = corastream.Partition{Topic: catalog}, crashItems
		}
		next, _, err := s.Next(p)
		if err != nil {
			return nil, err
		}
		for _, sp := range spans {
			if sp.Partition == p {
				next = sp.To
			}
		}
		if to := min(end, next+1+rand.Int64N(60)); to > next {
			spans = append(spans, corastream.Span{Partition: p, From: next, To: to})
		}
	}
	if len(spans) > 0 {
		return spans, nil
	}
	for id := range int32(crashParts + 1) { // unlucky, or at the end
		p, end := corastream.Partition{Topic: topic, ID: id}, int64(crashEach)
		if id == crashParts {
			p, end = corastream.Partition{Topic: catalog}, crashItems
		}
		if next, _, err := s.Next(p); err != nil {
			return nil, err
		} else if next < end {
			return []corastream.Span{{Partition: p, From: next, To: min(end, next+50)}}, nil
		}
	}
	return nil, nil
}

// TestKillDuringCommitLosesNothingAndDoublesNothing: kill -9 at random times, on four partitions and a catalogue, until the
// log is used up. After each kill the store is whole; in the end its digest is that of an uninterrupted run in journal order.
func TestKillDuringCommitLosesNothingAndDoublesNothing(t *testing.T) {
	kills := 8
	if testing.Short() {
		kills = 3
	}
	dir := t.TempDir()
	killed := 0
	for cycle := 0; ; cycle++ {
		patience := time.Duration(5+rand.IntN(60)) * time.Millisecond
		if killed >= kills {
			patience = time.Hour
		}
		ended := runChild(t, dir, patience)
		s := mustOpen(t, dir, crashConfig(), withPairs(500))
		noProblems(t, s)
		journalCovers(t, s)
		s.Close()
		if t.Failed() {
			t.Fatalf("after cycle %d", cycle)
		}
		if ended {
			break
		}
		killed++
	}
	t.Logf("%d kills", killed)
	s := mustOpen(t, dir, crashConfig(), withPairs(500))
	for id := range int32(crashParts) {
		if next, _, _ := s.Next(corastream.Partition{Topic: topic, ID: id}); next != crashEach {
			t.Errorf("partition %d ends at %d, want %d", id, next, crashEach)
		}
	}
	if st, _ := s.Stats(); st.Debts+st.Unread > 0 {
		t.Errorf("left to do: %+v", st)
	}
	if got, want := digest(t, s), digest(t, rerun(t, s)); got != want {
		t.Errorf("digest %s, an uninterrupted run in journal order has %s", got, want)
	}
}

// runChild starts a child and kills it when patience runs out, counted from when the store is open.
func runChild(t *testing.T, dir string, patience time.Duration) (ended bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if lines.Scan() && lines.Text() == "open" {
		timer := time.AfterFunc(patience, func() { cmd.Process.Signal(syscall.SIGKILL) })
		defer timer.Stop()
		for lines.Scan() {
			ended = ended || lines.Text() == "done"
		}
	}
	if err := cmd.Wait(); err != nil && errs.Len() > 0 {
		t.Fatalf("child: %v: %s", err, errs.String())
	}
	return ended
}

// journalCovers holds the journal against the offsets: every offset below the watermark in exactly one line.
func journalCovers(t *testing.T, s *Store) {
	t.Helper()
	next := map[corastream.Partition]int64{}
	seq := uint64(0)
	for l, err := range s.Journal(0) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Seq <= seq { // settlements take numbers, too
			t.Errorf("line %d after %d", l.Seq, seq)
		}
		seq = l.Seq
		for _, sp := range l.Spans {
			if sp.From != next[sp.Partition] {
				t.Errorf("line %d: %v from %d, the one before ended at %d", l.Seq, sp.Partition, sp.From, next[sp.Partition])
			}
			next[sp.Partition] = sp.To
		}
	}
	for p, want := range next {
		if got, _, _ := s.Next(p); got != want {
			t.Errorf("%v: watermark %d, the journal ends at %d", p, got, want)
		}
	}
}

// rerun applies a journal to an empty store.
func rerun(t *testing.T, from *Store) *Store {
	t.Helper()
	var opts []Option
	if from.derived != nil {
		opts = append(opts, withPairs(700))
	}
	s := mustOpen(t, t.TempDir(), testConfigLike(from), opts...)
	for l, err := range from.Journal(0) {
		if err != nil {
			t.Fatal(err)
		}
		switch l.Kind {
		case KindEvents:
			mustCommit(t, s, batchOf(l.Spans))
		case KindContent:
			err = s.Rejoin(context.Background(), l)
		case KindErasure:
			err = s.EraseAll(context.Background(), l.Erasures...)
		}
		if err != nil {
			t.Fatalf("line %d: %v", l.Seq, err)
		}
	}
	return s
}

func testConfigLike(s *Store) Config {
	c := testConfig()
	c.HistoryLimit, c.DedupeHorizon, c.DedupeLimit, c.UserTTL = s.cfg.HistoryLimit, s.cfg.DedupeHorizon, s.cfg.DedupeLimit, s.cfg.UserTTL
	return c
}
