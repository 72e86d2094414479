package link

import "sync"

// broadcast is a condition like sync.Cond whose waiters can also be canceled. The
// zero value is ready to use. All methods are called with the same lock held.
type broadcast struct {
	changed chan struct{} // closed by wake; nil while nothing waits
}

// wait releases mu, waits for wake or cancel, and locks mu again. It reports false
// if it was canceled. A nil cancel never is.
func (b *broadcast) wait(mu *sync.Mutex, cancel <-chan struct{}) bool {
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	changed := b.changed
	mu.Unlock()
	defer mu.Lock()
	select {
	case <-changed:
		return true
	case <-cancel:
		return false
	}
}

// wake lets all waiters check their condition.
func (b *broadcast) wake() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}
