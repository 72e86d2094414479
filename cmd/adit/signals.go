package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"adit/internal/terminal"
)

// handleSignals delivers SIGHUP on reload and ends the context at SIGINT or
// SIGTERM, until release is called. A second signal to stop ends the process at
// once, with status 1; not by the signal's default action, which process 1 of a
// container does not have.
func handleSignals(parent context.Context, log *slog.Logger) (ctx context.Context, reload <-chan os.Signal, release func()) {
	ctx, cancel := context.WithCancel(parent)
	hangup, stop := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(hangup, syscall.SIGHUP)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	released := make(chan struct{})
	next := func() bool {
		select {
		case <-stop:
			return true
		case <-released:
			return false
		}
	}
	go func() {
		if !next() {
			return
		}
		cancel()
		if next() {
			log.Warn("ended by a second signal", "status", exitFailed)
			os.Exit(exitFailed)
		}
	}()
	return ctx, hangup, func() {
		signal.Stop(hangup)
		signal.Stop(stop)
		close(released)
		cancel()
	}
}

// ignoreBrokenPipes makes a write to standard output or error fail like any
// other when its reader has gone, instead of ending the process: a daemon outlives
// the collectors of its log and its audit records.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// hideInput hides what is typed into a terminal until restore is called, or until
// SIGINT or SIGTERM, which then ends the process. restore is nil when f is not a
// terminal.
func hideInput(f *os.File) (restore func()) {
	if !terminal.Is(f) {
		return nil
	}
	// Before the input is hidden, so that no signal leaves it so.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	release := func() {
		signal.Stop(stop)
		close(stop)
	}
	show := terminal.HideInput(f)
	if show == nil {
		release()
		return nil
	}
	go func() {
		if sig, ok := <-stop; ok {
			show()
			signal.Reset(sig)
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				self.Signal(sig)
			}
		}
	}()
	return func() {
		show()
		release()
	}
}
