//go:build app

package apptest

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feeder sends a workload from within the test: faster than a process for each portion, and it outlives no broker.
type feeder struct {
	client *kgo.Client
	items  int // catalogue records sent
}

func (h *home) feeding(t *testing.T) *feeder {
	t.Helper()
	if h.feeder == nil {
		cl, err := kgo.NewClient(kgo.SeedBrokers(h.address()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		h.feeder = &feeder{client: cl}
	}
	return h.feeder
}

// feed sends n lines of the workload, each user's to one partition.
func (h *home) feed(t *testing.T, w *workload, n int) {
	t.Helper()
	records := make([]*kgo.Record, n)
	for i, line := range w.lines(n) {
		records[i] = &kgo.Record{Topic: h.topics.interactions, Value: []byte(line)}
		if m := w.means[line]; len(m.events) > 0 {
			records[i].Key = []byte(m.events[0].user)
		}
	}
	h.put(t, records)
}

// feedItems sends the next n catalogue records, as far as the workload has items.
func (h *home) feedItems(t *testing.T, w *workload, n int) {
	t.Helper()
	f := h.feeding(t)
	to := min(w.items, f.items+n)
	var records []*kgo.Record
	for i, line := range itemLines(f.items, to) {
		records = append(records, &kgo.Record{Topic: h.topics.items, Key: fmt.Append(nil, "i", f.items+i), Value: []byte(line)})
	}
	f.items = to
	h.put(t, records)
}

func (h *home) put(t *testing.T, records []*kgo.Record) {
	t.Helper()
	if err := h.feeding(t).client.ProduceSync(withTimeout(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// ungrouped takes the consumer group out of the configuration: a killed member would hold its partitions for seconds.
func (h *home) ungrouped(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.amend(t, regexp.MustCompile(`group: \S+`).FindString(string(b)), `group: ""`)
}

// good is how many events the lines so far hold.
func (w *workload) good() (n int) {
	for _, m := range w.means {
		n += len(m.events)
	}
	return n
}
