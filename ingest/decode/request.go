package decode

import (
	"fmt"

	"github.com/corastream/corastream"
)

// request decodes {user_id, n, request_id, exclude, candidates}.
func (j *job) request(v []byte) {
	r, bad := j.readRequest(v)
	if bad != nil {
		j.bury(v, bad.reason, bad.detail)
		return
	}
	j.b.Requests = append(j.b.Requests, r)
	j.d.Counts.event(j.dialect)
}

func (j *job) readRequest(v []byte) (r corastream.Request, bad *problem) {
	var user, id, n, exclude, candidates []byte
	var twice string
	members(v, func(k, x []byte) {
		var buf [32]byte
		switch string(word(&buf, k)) {
		case "userid", "user":
			slot(&user, x, &twice, "user_id")
		case "requestid", "id":
			slot(&id, x, &twice, "request_id")
		case "n", "count":
			slot(&n, x, &twice, "n")
		case "exclude":
			slot(&exclude, x, &twice, "exclude")
		case "candidates":
			slot(&candidates, x, &twice, "candidates")
		}
	})
	r = corastream.Request{Pos: j.r.Pos, Appended: j.r.Time, Trace: j.trace}
	if twice != "" {
		return r, &problem{ReasonAmbiguous, twice + " comes twice with different values", fContext}
	}
	if r.User, bad = j.d.id("user_id", user); bad != nil {
		return r, bad
	}
	if r.User == "" {
		return r, &problem{ReasonNoUser, "user_id is missing", fContext}
	}
	if r.ID, bad = j.d.id("request_id", id); bad != nil {
		return r, bad
	}
	if r.ID == "" {
		r.ID = j.ce.id
		if bad = j.d.checkID("the CloudEvent's source and id", r.ID); bad != nil {
			return r, bad
		}
	}
	if n != nil && !isNull(n) {
		x, ok := number(n)
		if !ok || x != x || x != float64(int(x)) || x < 0 || x > float64(j.d.cfg.MaxArray) {
			return r, &problem{ReasonType, fmt.Sprintf("n is not a whole number from 0 to max_array=%d: %s", j.d.cfg.MaxArray, brief(n)), fContext}
		}
		r.N = int(x)
	}
	if r.Exclude, bad = j.d.ids("exclude", exclude); bad != nil {
		return r, bad
	}
	r.Candidates, bad = j.d.ids("candidates", candidates)
	return r, bad
}
