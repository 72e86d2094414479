package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// signals delivers SIGHUP on reload and SIGINT or SIGTERM on stop until
// release is called.
func signals() (reload, stop <-chan os.Signal, release func()) {
	r, s := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(r, syscall.SIGHUP)
	signal.Notify(s, syscall.SIGINT, syscall.SIGTERM)
	return r, s, func() { signal.Stop(r); signal.Stop(s) }
}

// outlivePipes makes a write to standard output or error whose reader has gone
// fail like any other, instead of ending the process: a gateway outlives the
// collectors of its log and its audit records.
func outlivePipes() { signal.Ignore(syscall.SIGPIPE) }

// exitOnSecond ends the process at the next signal to stop: whoever sends a
// second one does not want to wait. Not by the signal's default action, which
// process 1 of a container does not have.
func exitOnSecond(stop <-chan os.Signal, done <-chan struct{}, log *slog.Logger) {
	go func() {
		select {
		case <-stop:
			log.Warn("ended at once by a second signal", "status", exitFailed)
			os.Exit(exitFailed)
		case <-done:
		}
	}()
}
