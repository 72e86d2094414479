package server

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"adit/internal/audit"
	"adit/internal/dialout"
	"adit/mux"
)

// serveStreams serves a session's streams until the session ends, and waits for
// them.
func serveStreams(c *core, x *session) {
	handler := &dialout.Handler{
		Authorize: func(t mux.Target) (dialout.Destination, error) {
			return c.access.Load().authorize(x.identity.Load().Policy, t)
		},
		Resolver: c.cfg.Resolver,
		Timeout:  c.cfg.DialTimeout,
		Observe: func(t mux.Target) dialout.Observer {
			return &streamObserver{c, x, c.record(audit.Stream, x.id, x.user, x.currentAddr(), t.String())}
		},
		NoTarget: func(err error) {
			c.log.Debug("stream without target", "user", userName(x.user), "addr", x.currentAddr(), "reason", err)
		},
	}
	var streams sync.WaitGroup
	for {
		st, err := x.mux.Accept()
		if err != nil {
			break
		}
		streams.Go(func() { handler.Serve(x.ctx, st) })
	}
	x.cancel()
	streams.Wait()
}

// streamObserver logs, counts and records one stream of a session.
type streamObserver struct {
	core    *core
	session *session
	rec     *recording // began when the target had been read
}

// log returns the logger with the stream's attributes. It is made only when
// there is something to log.
func (o *streamObserver) log() *slog.Logger {
	return o.session.log.With("addr", o.session.currentAddr(), "target", o.rec.Target)
}

// Connected implements dialout.Observer.
func (o *streamObserver) Connected(target net.Conn) {
	o.rec.dialed(target)
	o.core.counters.targetDials.Add(mux.Connected.String(), time.Since(o.rec.start))
	o.core.counters.streams.Add(1)
}

// Refused implements dialout.Observer.
func (o *streamObserver) Refused(code mux.Code, err error) {
	o.core.counters.targetDials.Add(code.String(), time.Since(o.rec.start))
	o.core.counters.streamsRefused.Add(code.String())
	level := slog.LevelInfo
	switch code {
	case mux.Forbidden:
		level = slog.LevelWarn
	case mux.Cancelled: // by the client
		level = slog.LevelDebug
	}
	o.log().Log(o.session.ctx, level, "stream refused", "code", code.String(), "reason", err)
	o.rec.end(code.String(), err.Error())
}

// Closed implements dialout.Observer.
func (o *streamObserver) Closed(toTarget, toClient int64, err error) {
	o.rec.relayed(toTarget, toClient, err, "")
	if o.core.log.Enabled(o.session.ctx, slog.LevelDebug) {
		o.log().Debug("stream closed", "sent", toClient, "received", toTarget, "after", time.Since(o.rec.start).Round(time.Millisecond), "error", err)
	}
}
