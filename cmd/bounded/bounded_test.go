package bounded

import "testing"

// recorder is a test that notes whether it failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

var sink []byte

func TestAParserThatTakesTooMuchFails(t *testing.T) {
	for _, c := range []struct {
		name string
		cost func()
		bad  bool
	}{
		{"little", func() { sink = make([]byte, 1<<20) }, false},
		{"one large block", func() { sink = make([]byte, 64<<20) }, true},
		{"many small ones", func() {
			for range 1 << 16 {
				sink = make([]byte, 1<<10)
			}
		}, true},
		{"a hang", func() {
			for until := processor() + spent + spent/10; processor() < until; {
			}
		}, true},
	} {
		r := &recorder{TB: t}
		if Parse(r, 100, c.cost); r.failed != c.bad {
			t.Errorf("%s: failed %v, want %v", c.name, r.failed, c.bad)
		}
	}
}
