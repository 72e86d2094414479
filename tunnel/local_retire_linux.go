package tunnel

import (
	"os"
	"sync"
	"time"
)

// retired are the sockets whose directions have both ended, so that nobody is
// affected by when they are closed. That is a system call which Go's scheduler
// hears of, so many are closed at a time.
var retired = newRetirement()

type retirement struct {
	mu    sync.Mutex
	files []*os.File
	timer *time.Timer
}

const (
	retiredMost = 32                     // so many are closed at the latest …
	retiredFor  = 100 * time.Millisecond // … or so long after the first of them
)

func newRetirement() *retirement {
	r := new(retirement)
	r.timer = time.AfterFunc(time.Hour, r.close)
	r.timer.Stop()
	return r
}

func (r *retirement) add(f *os.File) {
	r.mu.Lock()
	r.files = append(r.files, f)
	n := len(r.files)
	r.mu.Unlock()
	switch n {
	case 1:
		r.timer.Reset(retiredFor)
	case retiredMost:
		r.close()
	}
}

func (r *retirement) close() {
	r.mu.Lock()
	files := r.files
	r.files = make([]*os.File, 0, retiredMost)
	r.mu.Unlock()
	for _, f := range files {
		f.Close()
	}
}

// Retire closes the connection some time soon. Both directions have ended.
func (c *localConn) Retire() { retired.add(c.file) }
