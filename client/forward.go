package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// listen opens a listener; only its owner may connect to a unix socket.
func listen(network, address string) (net.Listener, error) {
	if network == "unix" {
		return tunnel.ListenUnix(address, 0o600)
	}
	return tunnel.Listen(network, address)
}

// serve accepts a forward's connections until ctx is done.
func (c *Client) serve(ctx context.Context, f Forward) {
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		f.Listener.Close()
		close(closed)
	})
	var conns sync.WaitGroup
	defer func() {
		conns.Wait()
		<-ctx.Done()
		<-closed // not before: Accept may fail before the port is free
	}()
	for pause := time.Duration(0); ; {
		conn, err := f.Listener.Accept()
		if err == nil {
			pause = 0
			conns.Go(func() { c.carry(ctx, f, conn) })
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of descriptors, most likely.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		c.log.Error("cannot accept", "forward", f.Target.String(), "error", err, "retry", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// carry takes one accepted connection to its end.
func (c *Client) carry(ctx context.Context, f Forward, conn net.Conn) {
	defer f.counters.begin()()
	local := tunnel.NewSocket(conn)
	wait, cancel := context.WithTimeout(ctx, c.cfg.LinkWait)
	st, err := c.open(wait, f.Target)
	cancel()
	if err != nil {
		local.Abort()
		if ctx.Err() == nil {
			f.counters.fault(err)
			c.logStream(f.Target, err)
		}
		return
	}
	// Else the end of the session would wait for the data to be delivered.
	stop := context.AfterFunc(ctx, st.Abort)
	defer stop()
	if _, err := tunnel.Relay(local, st); err != nil && ctx.Err() == nil {
		f.counters.fault(err)
		c.logStream(f.Target, err)
	}
}

// logStream says why a stream came to no good end, at the level that it
// deserves: an application that goes away is nobody's concern.
func (c *Client) logStream(target mux.Target, err error) {
	var refused *mux.RefusedError
	switch {
	case errors.As(err, &refused):
		c.log.Warn("stream refused", "target", target.String(), "code", refused.Code.String(), "reason", refused.Reason)
	case errors.Is(err, ErrLinkDown):
		c.log.Warn("connection reset", "target", target.String(), "reason", err)
	case errors.Is(err, mux.ErrSessionLost):
		c.log.Warn("stream lost", "target", target.String(), "reason", err)
	default:
		c.log.Debug("stream ended", "target", target.String(), "reason", err)
	}
}
