package corastream

import (
	"sync"
	"time"
)

// LogClock tells the present by the events' own times, by which a list model decays: the newest event's time, and how long ago it was
// appended. So a log of last year that is appended today gets the lists of last year. Before the first event it shows the wall
// clock. The zero LogClock is ready.
type LogClock struct {
	mu     sync.Mutex
	newest time.Time     // of an event
	behind time.Duration // from then to its append
}

// Behind is how far the log's present lies behind the wall clock; false before the first event.
func (c *LogClock) Behind() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.behind, !c.newest.IsZero()
}

// Restore sets what Behind gave in an earlier process. The first event replaces it.
func (c *LogClock) Restore(behind time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind = behind
}

// set takes in events that were learnt at wall time.
func (c *LogClock) set(events []Event, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range events {
		if ev := &events[i]; !ev.OfUser() && ev.Time.After(c.newest) {
			if c.newest = ev.Time; ev.Appended.IsZero() {
				c.behind = wall.Sub(ev.Time)
			} else {
				c.behind = ev.Appended.Sub(ev.Time)
			}
		}
	}
}

func (c *LogClock) now(wall time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wall.Add(-c.behind)
}
