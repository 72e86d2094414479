package mux

import "sync/atomic"

// crew runs jobs in goroutines of their own. Some that are done stay for the
// next: with stacks that have grown, they are quicker than new ones.
type crew struct {
	jobs chan func()
	idle atomic.Int32
	done <-chan struct{} // nobody stays any more
}

// maxIdle is how many stay.
const maxIdle = 8

func newCrew(done <-chan struct{}) *crew { return &crew{jobs: make(chan func()), done: done} }

// run does not wait.
func (c *crew) run(job func()) {
	select {
	case c.jobs <- job:
	default:
		go c.work(job)
	}
}

func (c *crew) work(job func()) {
	for {
		job()
		if c.idle.Add(1) > maxIdle {
			c.idle.Add(-1)
			return
		}
		select {
		case job = <-c.jobs:
			c.idle.Add(-1)
		case <-c.done:
			return
		}
	}
}
