package corastream

import (
	"sync"
	"time"
)

// logClock tells the present by the events' own times, which a list model decays by: the newest event's time, and what has gone
// by since it was learnt. A log of last year that is learnt today so gets the lists of last year. Before the first event it
// shows the wall clock.
type logClock struct {
	mu     sync.Mutex
	newest time.Time // of an event
	at     time.Time // wall clock when it was learnt
}

func (c *logClock) set(events []Event, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range events {
		if t := events[i].Time; t.After(c.newest) {
			c.newest, c.at = t, wall
		}
	}
}

func (c *logClock) now(wall time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest.IsZero() {
		return wall
	}
	return c.newest.Add(wall.Sub(c.at))
}
