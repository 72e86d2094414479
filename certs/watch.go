package certs

import (
	"context"
	"time"
)

// DefaultWatchInterval is how often Run looks at the files by default.
const DefaultWatchInterval = 10 * time.Second

// Run looks at the files until ctx ends and loads them when their contents
// have changed. It notices every way of replacing them: writing in place,
// renaming over, swinging a symbolic link of the file or of a directory above.
//
// every is the interval, 0 means DefaultWatchInterval. report (nil is allowed)
// is called from Run's goroutine with reloaded = true for each new pair, and
// with an error for a pair that cannot be used: the old one stays. Because
// certificate and key are often written one after the other, an error is
// reported only when the next look finds the same contents, and then once; an
// expired pair that was good when it was loaded is not an error.
func (f *FileSource) Run(ctx context.Context, every time.Duration, report func(reloaded bool, err error)) {
	if every <= 0 {
		every = DefaultWatchInterval
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if reloaded, err := f.poll(); report != nil && (reloaded || err != nil) {
			report(reloaded, err)
		}
	}
}

// poll loads the files if they changed. It returns an error once for each
// state that two polls in a row could not use.
func (f *FileSource) poll() (reloaded bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, cert, err := f.read()
	switch {
	case state == f.live.Load().state:
		f.failed = failure{}
		return false, nil
	case err == nil:
		f.failed = failure{}
		f.live.Store(&loaded{cert, state})
		return true, nil
	case f.failed.state != state:
		f.failed = failure{state: state} // maybe half written
		return false, nil
	case f.failed.reported:
		return false, nil
	}
	f.failed.reported = true
	return false, err
}
