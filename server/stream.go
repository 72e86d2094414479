package server

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"adit/internal/audit"
	"adit/internal/descriptors"
	"adit/internal/dialout"
	"adit/internal/metrics"
	"adit/mux"
	"adit/tunnel"
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
			return &streamObserver{core: c, session: x, target: c.targetTally(t), rec: c.record(audit.Stream, x.id, x.user, x.currentAddr(), t.String())}
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
		streams.Go(func() {
			if relay := handler.Connect(x.ctx, st); relay != nil {
				streams.Go(relay)
			}
		})
	}
	x.cancel()
	streams.Wait()
}

// streamObserver logs, counts and records one stream of a session.
type streamObserver struct {
	core    *core
	session *session
	target  *metrics.Tally      // nil unless the target is a named one
	rec     *recording          // began when the target had been read
	open    *metrics.OpenStream // from Connected to Closed
}

// targetTally returns the counts of a named target that is configured, or nil.
func (c *core) targetTally(t mux.Target) *metrics.Tally {
	if t.Kind != mux.Named {
		return nil
	}
	if _, known := c.access.Load().targets[t.Address]; !known {
		return nil
	}
	return c.counters.targets.Of(t.Address)
}

// count counts the result for the named target.
func (o *streamObserver) count(code mux.Code) {
	if o.target != nil {
		o.target.Add(code.String())
	}
}

// log returns the logger with the stream's attributes. It is made only when
// there is something to log.
func (o *streamObserver) log() *slog.Logger {
	return o.session.log.With("addr", o.session.currentAddr(), "target", o.rec.Target)
}

// Connected implements dialout.Observer.
func (o *streamObserver) Connected(target net.Conn, progress *tunnel.Progress) {
	o.rec.dialed(target)
	o.core.counters.targetDials.Add(mux.Connected.String(), time.Since(o.rec.start))
	o.core.counters.streams.Add(1)
	o.count(mux.Connected)
	o.open = o.session.streams.Add(o.rec.Target, o.rec.start, &progress.BToA, &progress.AToB)
}

// Refused implements dialout.Observer.
func (o *streamObserver) Refused(code mux.Code, err error) {
	o.core.counters.targetDials.Add(code.String(), time.Since(o.rec.start))
	o.core.counters.streamsRefused.Of(userName(o.session.user)).Add(code.String())
	o.count(code)
	level := slog.LevelInfo
	switch code {
	case mux.Forbidden:
		level = slog.LevelWarn
	case mux.Cancelled: // by the client
		level = slog.LevelDebug
	}
	if descriptors.Short(err) {
		o.core.shortage.Warn()
	}
	o.log().Log(o.session.ctx, level, "stream refused", "code", code.String(), "reason", err)
	o.rec.end(code.String(), err.Error())
}

// Closed implements dialout.Observer.
func (o *streamObserver) Closed(toTarget, toClient int64, err error) {
	o.session.streams.Remove(o.open)
	o.rec.relayed(toTarget, toClient, err, "")
	if o.core.log.Enabled(o.session.ctx, slog.LevelDebug) {
		o.log().Debug("stream closed", "sent", toClient, "received", toTarget, "after", time.Since(o.rec.start).Round(time.Millisecond), "error", err)
	}
}
