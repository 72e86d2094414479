package certs

import (
	"context"
	"time"
)

// DefaultWatchInterval is the default of FileSource.Run's interval.
const DefaultWatchInterval = 10 * time.Second

// Run reads the files at an interval until ctx ends and loads them when their
// contents have changed. It notices every way of replacing them: writing in
// place, renaming over, and switching a symbolic link of the file or of a
// parent directory.
//
// every is the interval; 0 means DefaultWatchInterval. report, which may be
// nil, is called from Run's goroutine: with reloaded = true for each new pair,
// and with an error for a pair that cannot be used, while the old one stays in
// use. Certificate and key are often written one after the other, so an error
// is reported, once, only when the next interval finds the same contents. The
// expiry of a loaded pair is not an error.
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
// state that two consecutive polls could not use.
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
		f.failed = failure{state: state} // the files may be incomplete
		return false, nil
	case f.failed.reported:
		return false, nil
	}
	f.failed.reported = true
	return false, err
}
