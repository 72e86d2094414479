package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"adit/mux"
	"adit/tunnel/dial"
)

// sessionDialer makes sessions with the configured servers, and puts sessions on
// new connections. It has no state of its own: any goroutine may use it.
type sessionDialer struct {
	servers  []string
	random   bool // try the servers in random order
	options  *dial.Options
	mux      *mux.Config
	counters *counters
}

// connect makes a session with the first of servers that gives one. Its error
// joins errs, those of servers tried before, and the new ones.
func (d *sessionDialer) connect(ctx context.Context, servers []string, errs ...error) (session *mux.Session, server string, err error) {
	for _, server = range servers {
		if session, err = d.dial(ctx, server); err == nil {
			return session, server, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, server, joinAttempts(errs...)
}

// order returns the servers in the order in which to try them, preferred first
// if it is one of them.
func (d *sessionDialer) order(preferred string) []string {
	list := slices.Clone(d.servers)
	if d.random {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	if i := slices.Index(list, preferred); i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, preferred)
	}
	return list
}

// dial makes a session with server.
func (d *sessionDialer) dial(ctx context.Context, server string) (session *mux.Session, err error) {
	start := time.Now()
	defer func() { d.counters.dialed(server, session, err, time.Since(start)) }()
	conn, err := dial.Dial(ctx, server, d.options)
	if err != nil {
		return nil, err
	}
	session, err = mux.Client(ctx, conn, d.mux)
	if err != nil {
		d.suspectAddress(ctx, server, err)
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return session, nil
}

// resume puts session on a new connection to its server and returns it. If the
// server does not know it any more, session has ended and resume returns a new
// one.
func (d *sessionDialer) resume(ctx context.Context, session *mux.Session, server string) (next *mux.Session, err error) {
	start := time.Now()
	defer func() {
		opened := next
		if next == session {
			opened = nil
		}
		d.counters.dialed(server, opened, err, time.Since(start))
	}()
	conn, err := dial.Dial(ctx, server, d.options)
	if err != nil {
		return nil, err
	}
	next, err = session.Resume(ctx, conn)
	if err != nil {
		d.suspectAddress(ctx, server, err)
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return next, nil
}

// suspectAddress makes the next connection to server prefer other addresses of its
// name, if the last one was lost in silence: no close, no reset. A path that loses
// large packets accepts every connection.
func (d *sessionDialer) suspectAddress(ctx context.Context, server string, lost error) {
	var byPeer *mux.ClosedError
	if lost == nil || ctx.Err() != nil || errors.As(lost, &byPeer) {
		return
	}
	for _, said := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(lost, said) {
			return
		}
	}
	d.options.Addresses.Suspect(server)
}

// drain closes session, which gets no new streams, when its streams have ended,
// and resumes it as long as they have not. If ctx is done they are reset.
func (d *sessionDialer) drain(ctx context.Context, session *mux.Session, server string, pauses backoff, limit time.Duration) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		session.Shutdown(ctx, mux.CloseDone, "")
	}()
	defer func() { <-drained }()
	for {
		select {
		case <-session.Down():
		case <-drained:
			return
		}
		if !session.Resumable() {
			return
		}
		next, err := d.resume(ctx, session, server)
		switch {
		case err != nil:
			select {
			case <-time.After(pauses.pause(limit)):
			case <-drained:
			}
		case next != session:
			next.CloseReason(mux.CloseDone, "")
		default:
			pauses.reset()
		}
		if closed(session.Done()) {
			return
		}
	}
}

// closed reports whether c is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
