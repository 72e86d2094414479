package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"adit/internal/terminal"
)

// secondStopAfter is the time after the first signal to stop from which another
// one ends the process at once. Before that it is the same request: timeout(1),
// npm and a shell's process group send two signals in the same instant.
const secondStopAfter = time.Second

// handleSignals delivers SIGHUP on reload and ends the context at SIGINT or
// SIGTERM, until release is called. SIGHUP because the terminal has closed stops,
// too, unless adit was started to ignore it, as by nohup. The context's cause
// names the signal. A second signal to stop ends the process at once, with status
// 1; not by the signal's default action, which process 1 of a container does not
// have.
func handleSignals(parent context.Context, log *slog.Logger) (ctx context.Context, reload <-chan os.Signal, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	terminal := !signal.Ignored(syscall.SIGHUP) && hasTerminal()
	signals, hangup := make(chan os.Signal, 4), make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	released := make(chan struct{})
	go func() {
		var stopping time.Time
		for {
			var sig os.Signal
			select {
			case sig = <-signals:
			case <-released:
				return
			}
			closed := sig == syscall.SIGHUP && terminal && !hasTerminal()
			switch {
			case sig == syscall.SIGHUP && !closed:
				select {
				case hangup <- sig:
				default:
				}
			case stopping.IsZero():
				stopping = time.Now()
				reason := "signal: " + sig.String()
				if closed {
					reason = "the terminal has closed"
				}
				cancel(errors.New(reason))
			case closed:
				// The system may send several.
			case time.Since(stopping) >= secondStopAfter:
				log.Warn("ended by a second signal", "status", exitFailed)
				os.Exit(exitFailed)
			}
		}
	}()
	return ctx, hangup, func() {
		signal.Stop(signals)
		close(released)
		cancel(nil)
	}
}

// hasTerminal reports whether the process has a controlling terminal. It loses
// that when the terminal closes.
func hasTerminal() bool {
	f, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	f.Close()
	return true
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
