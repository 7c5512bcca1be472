package kernels

import "sync"

// Parallel cuts [0, n) into at most threads even ranges and calls f on each, the last on the caller's goroutine; it returns
// when all have. worker is in [0, threads), so that each can own its Scratch. A panic in f reaches the caller. It allocates
// nothing once warm, beyond what making f costs the caller: keep f for repeated use.
func Parallel(threads, n int, f func(lo, hi, worker int)) {
	threads = min(threads, n)
	if n <= 0 {
		return
	}
	if threads <= 1 {
		f(0, n, 0)
		return
	}
	j := jobs.take()
	for len(j.run) < threads {
		w := len(j.run)
		j.run = append(j.run, func() { j.work(w) })
	}
	j.f, j.n, j.threads, j.panic = f, n, threads, nil
	j.wait.Add(threads)
	for w := 0; w < threads-1; w++ {
		go j.run[w]()
	}
	j.run[threads-1]()
	j.wait.Wait()
	p := j.panic
	j.f, j.panic = nil, nil
	jobs.put(j)
	if p != nil {
		panic(p)
	}
}

// job is one call of Parallel. The functions in run are made once and kept: a go statement on a ready function value
// allocates nothing.
type job struct {
	f          func(lo, hi, worker int)
	n, threads int
	run        []func()
	wait       sync.WaitGroup
	lock       sync.Mutex
	panic      any
}

var jobs pool[job]

func (j *job) work(w int) {
	defer j.end()
	j.f(w*j.n/j.threads, (w+1)*j.n/j.threads, w)
}

func (j *job) end() {
	if p := recover(); p != nil {
		j.lock.Lock()
		j.panic = p
		j.lock.Unlock()
	}
	j.wait.Done()
}
