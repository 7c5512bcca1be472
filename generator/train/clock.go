package train

import "time"

// clock tells progress. It is the only part of a run that looks at the time, and no result depends on it.
type clock struct {
	tell  func(Progress)
	saved time.Time // of the last state file

	began       time.Time // of the first step in this process
	done, total int       // steps in this process, steps of the whole run
	loss        float64   // mean over about the last 50 steps
	auc         float64
}

func (r *runner) tell(p Progress) {
	c := &r.clock
	if p.AUC != 0 {
		c.auc = p.AUC
	}
	if p.AUC == 0 {
		p.AUC = c.auc
	}
	if p.Loss == 0 {
		p.Loss = c.loss
	}
	c.tell(p)
}

func (c *clock) steps(total int) { c.total = total }

func (c *clock) begin() {
	if c.began.IsZero() {
		c.began = time.Now()
	}
}

// step is called after a step, with the place of the next one.
func (c *clock) step(phase string, at *progress, perEpoch int) {
	c.done++
	mean := at.LossSum / float64(at.Step)
	if c.loss == 0 || at.Step == 1 {
		c.loss = mean
	}
	c.loss += (mean - c.loss) / 50
	left := c.total - at.Epoch*perEpoch - at.Step
	eta := time.Since(c.began) / time.Duration(c.done) * time.Duration(left)
	c.tell(Progress{Phase: phase, Done: at.Step, Total: perEpoch, Loss: c.loss, AUC: c.auc, ETA: eta.Round(time.Second)})
}

func (c *clock) stateDue(every time.Duration) bool { return time.Since(c.saved) >= every }
