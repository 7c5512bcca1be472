package serve

import (
	"context"
	"net/http"
	"sync"

	"github.com/corastream/corastream"
)

// changes puts the changes of one item in a row. Each one reads the item and writes its whole record, because a compacted topic keeps
// the last record alone: a change that read the item before the one before it was learnt would undo it.
type changes struct {
	turn sync.Mutex
	busy map[string]chan struct{} // items that are being changed; closed at the end
	sent map[string][]corastream.Position
}

// maxChanged is how many items' changes wait to be learnt at most.
const maxChanged = 10_000

// begin waits until nobody else changes the item and the changes before are learnt. It returns what ends the change: with where its
// record lies, or with nothing when none was sent.
func (c *changes) begin(ctx context.Context, id string, learnt func(context.Context, []corastream.Position) error) (end func([]corastream.Position), err error) {
	mine := make(chan struct{})
	for {
		c.turn.Lock()
		other := c.busy[id]
		if other == nil {
			break
		}
		c.turn.Unlock()
		leaveSlot(ctx) // events need not wait for this item
		select {
		case <-other:
		case <-ctx.Done():
			return nil, notYet(ctx)
		}
	}
	if c.busy == nil {
		c.busy, c.sent = map[string]chan struct{}{}, map[string][]corastream.Position{}
	}
	c.busy[id] = mine
	before, full := c.sent[id], len(c.sent) >= maxChanged
	c.turn.Unlock()
	end = func(at []corastream.Position) {
		c.turn.Lock()
		defer c.turn.Unlock()
		if at != nil && learnt != nil {
			c.sent[id] = at
		}
		delete(c.busy, id)
		close(mine)
	}
	if len(before) > 0 {
		leaveSlot(ctx)
		if learnt(ctx, before) != nil {
			end(nil)
			return nil, notYet(ctx)
		}
	}
	if full {
		c.forget(learnt)
	}
	return end, nil
}

// forget drops what is learnt by now.
func (c *changes) forget(learnt func(context.Context, []corastream.Position) error) {
	now, cancel := context.WithCancel(context.Background())
	cancel() // ask without waiting
	c.turn.Lock()
	defer c.turn.Unlock()
	for id, at := range c.sent {
		if learnt(now, at) == nil {
			delete(c.sent, id)
		}
	}
}

func notYet(ctx context.Context) error {
	return overloaded("the item's change before this one is not learnt yet", context.Cause(ctx))
}

// noting remembers where what it produces lies.
type noting struct {
	EventSink
	at []corastream.Position
}

func (n *noting) Produce(ctx context.Context, events [][]byte, headers map[string]string) ([]corastream.Position, error) {
	at, err := n.EventSink.Produce(ctx, events, headers)
	n.at = at
	return at, err
}

// changing runs a change of one item in its turn.
func (s *Server) changing(r *http.Request, id string, change func(to EventSink) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), ms(s.cfg.LearntWaitMS))
	defer cancel()
	end, err := s.changes.begin(ctx, id, s.deps.Learnt)
	if err != nil {
		return err
	}
	to := &noting{EventSink: s.deps.Catalogue}
	defer func() { end(to.at) }()
	return change(to)
}
