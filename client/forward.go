package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// forwarder serves one Forward: it accepts connections and relays each over a
// stream of its own.
type forwarder struct {
	Forward
	sessions *currentSession
	linkWait time.Duration
	log      *slog.Logger
	counters *forwardCounters
	client   *counters
}

// listen opens the forward's listener. Only the owner of a unix socket may
// connect to it.
func (f *forwarder) listen() error {
	open := tunnel.Listen
	if f.Network == "unix" {
		open = func(_, path string) (net.Listener, error) { return tunnel.ListenUnix(path, 0o600) }
	}
	ln, err := open(f.Network, f.Address)
	if err != nil {
		return fmt.Errorf("forward to %s: %w", f.Target, err)
	}
	f.Listener = ln
	return nil
}

// serve accepts connections on ln, the forward's listener, until ctx is done. It
// returns when ln is closed and every connection has ended.
func (f *forwarder) serve(ctx context.Context, ln net.Listener) {
	released := make(chan struct{})
	context.AfterFunc(ctx, func() {
		ln.Close()
		close(released)
	})
	var conns sync.WaitGroup
	defer func() {
		conns.Wait()
		<-ctx.Done()
		// Accept may fail before Close has freed the port.
		<-released
	}()
	for pause := time.Duration(0); ; {
		conn, err := ln.Accept()
		if err == nil {
			pause = 0
			conns.Go(func() { f.relay(ctx, conn) })
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		f.log.Error("accept failed", "forward", f.name(), "target", f.Target.String(), "error", err, "retry", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// relay opens a stream for an accepted connection and relays between the two.
func (f *forwarder) relay(ctx context.Context, conn net.Conn) {
	defer f.counters.begin()()
	local := tunnel.NewSocket(conn)
	wait, cancel := context.WithTimeout(ctx, f.linkWait)
	st, session, err := f.sessions.open(wait, f.Target)
	cancel()
	if err != nil {
		local.Abort()
		f.failed(ctx, err)
		return
	}
	// Without the abort, closing the session would wait for queued data.
	stop := context.AfterFunc(ctx, st.Abort)
	defer stop()
	var progress tunnel.Progress
	streams := f.client.streamsOf(session)
	open := streams.Add(f.Target.String(), time.Now(), &progress.BToA, &progress.AToB)
	defer streams.Remove(open)
	if _, err := tunnel.RelayCounted(local, st, &progress); err != nil {
		f.failed(ctx, err)
	}
}

// failed counts and logs why a connection failed, unless the client is stopping.
// An application that closes its connection early is logged at debug level.
func (f *forwarder) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.counters.failed(err)
	log := f.log.With("forward", f.name(), "target", f.Target.String())
	var refused *mux.RefusedError
	switch {
	case errors.As(err, &refused):
		log.Warn("stream refused", "code", refused.Code.String(), "reason", refused.Reason)
	case errors.Is(err, ErrLinkDown):
		log.Warn("connection reset", "reason", err)
	case errors.Is(err, mux.ErrSessionLost):
		log.Warn("stream lost", "reason", err)
	default:
		log.Debug("stream ended", "reason", err)
	}
}

// name is where the forward listens: its name in the log, the status and the metrics.
func (f *forwarder) name() string {
	switch {
	case f.Network == "unix":
		return "unix:" + f.Address
	case f.Listener != nil:
		return f.Listener.Addr().String()
	}
	return f.Address
}

func (f *forwarder) status() ForwardStatus {
	return ForwardStatus{f.name(), f.Target.String(), int(f.counters.active.Load()), f.counters.opened.Load(), f.counters.refused.Counts()}
}
