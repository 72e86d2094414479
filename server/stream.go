package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"adit/auth"
	"adit/internal/audit"
	"adit/mux"
	"adit/tunnel"
)

// acceptStreams serves a session's streams until it ends, and waits for them.
func (s *Server) acceptStreams(x *session) {
	var streams sync.WaitGroup
	for {
		st, err := x.mux.Accept()
		if err != nil {
			break
		}
		streams.Go(func() {
			if relay := s.serveStream(x, st); relay != nil {
				relay()
			}
		})
	}
	x.cancel()
	streams.Wait()
}

// serveStream connects a stream to its target, and gives what is then to be
// done, or nil.
func (s *Server) serveStream(x *session, st *mux.Stream) (relay func()) {
	target, err := st.ReadTarget()
	if err != nil {
		s.log.Debug("stream without a target", "user", userName(x.user), "addr", x.currentAddr(), "reason", err)
		st.Close()
		return nil
	}
	log := func() *slog.Logger { // made when there is something to say
		return s.log.With("session", x.id, "user", userName(x.user), "addr", x.currentAddr(), "target", target.String())
	}
	rec := s.record(audit.Stream, x.id, x.user, x.currentAddr(), target.String())
	conn, err := s.dialFor(x, st, target)
	if err != nil {
		code, reason := classify(err)
		s.counters.targetDials.Add(code.String(), time.Since(rec.start))
		s.counters.streamsRefused.Add(code.String())
		level := slog.LevelInfo
		switch code {
		case mux.Forbidden:
			level = slog.LevelWarn
		case mux.Cancelled: // the client went away
			level = slog.LevelDebug
		}
		log().Log(x.ctx, level, "stream refused", "code", code.String(), "reason", err)
		rec.end(code.String(), err.Error())
		st.Refuse(code, reason)
		st.Close()
		return nil
	}
	rec.dialled(conn)
	s.counters.targetDials.Add(mux.Connected.String(), time.Since(rec.start))
	s.counters.streams.Add(1)
	socket := tunnel.NewSocket(conn)
	if err := st.Connected(); err != nil {
		socket.Abort() // the client has gone: no clean end for the target
		rec.relayed(0, 0, err, "")
		st.Close()
		return nil
	}
	return func() {
		// Else the end of the session would wait for the data to be delivered.
		stop := context.AfterFunc(x.ctx, st.Abort)
		defer stop()
		n, err := tunnel.Relay(socket, st)
		rec.relayed(n.BToA, n.AToB, err, "")
		if s.log.Enabled(x.ctx, slog.LevelDebug) {
			log().Debug("stream closed", "sent", n.AToB, "received", n.BToA, "after", time.Since(rec.start).Round(time.Millisecond), "error", err)
		}
	}
}

// dialFor dials a stream's target, and gives up when the stream goes away.
func (s *Server) dialFor(x *session, st *mux.Stream, t mux.Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(x.ctx, s.cfg.DialTimeout)
	defer cancel()
	st.Watch(cancel, nil)
	defer st.Watch(nil, nil)
	return s.dial(ctx, s.access.Load(), x.identity.Load().Policy, t)
}

// dial connects to a target if the policy allows it.
func (s *Server) dial(ctx context.Context, a *access, policy *auth.Policy, t mux.Target) (net.Conn, error) {
	switch t.Kind {
	case mux.Named:
		configured, known := a.targets[t.Address]
		allowed := policy.AllowTarget(t.Address)
		switch {
		case !known && allowed != nil:
			return nil, allowed
		case !known:
			return nil, fmt.Errorf("%w: %q", errNoTarget, t.Address)
		}
		to, err := parseAddress(configured)
		if err != nil {
			return nil, err
		}
		if allowed == nil { // by its name, so the address is the operator's choice
			return to.dial(ctx, s.dialer)
		}
		return s.dialAllowed(ctx, policy, to)
	case mux.Unix:
		return s.dialAllowed(ctx, policy, address{"unix", t.Address, 0})
	}
	to, err := parseHostPort(t.Address)
	if err != nil {
		return nil, err
	}
	return s.dialAllowed(ctx, policy, to)
}

// dialAllowed dials an address that the client chose. The policy is asked
// about each resolved address at the moment of connecting to it.
func (s *Server) dialAllowed(ctx context.Context, policy *auth.Policy, to address) (net.Conn, error) {
	d := s.dialer
	if to.network == "unix" {
		if err := policy.AllowUnix(to.host); err != nil {
			return nil, err
		}
		return to.dial(ctx, d)
	}
	if err := policy.MayAsk(to.host, to.port); err != nil {
		return nil, err
	}
	d.ControlContext = func(_ context.Context, network, resolved string, conn syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return fmt.Errorf("%w: resolved address %q", auth.ErrForbidden, resolved)
		}
		if err := policy.Authorize(to.host, ap); err != nil {
			return err
		}
		return tunnel.Unpaced(network, resolved, conn)
	}
	return to.dial(ctx, d)
}

var errNoTarget = errors.New("the server has no target of that name")

// address is where a target is.
type address struct {
	network string // "tcp" or "unix"
	host    string // or the path
	port    uint16
}

// String gives the address as net.Dial takes it.
func (a address) String() string {
	if a.network == "unix" {
		return a.host
	}
	return net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))
}

// dial connects to the address.
func (a address) dial(ctx context.Context, d net.Dialer) (net.Conn, error) {
	if tunnel.Local(a.host) {
		d.KeepAlive = -1
	}
	return d.DialContext(ctx, a.network, a.String())
}

// parseAddress reads HOST:PORT or unix:PATH.
func parseAddress(s string) (address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return address{}, fmt.Errorf("socket path %q is not absolute", path)
		}
		return address{"unix", path, 0}, nil
	}
	return parseHostPort(s)
}

func parseHostPort(s string) (address, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return address{}, fmt.Errorf("%w: %q", errBadAddress, s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return address{}, fmt.Errorf("%w: %q", errBadAddress, s)
	}
	return address{"tcp", host, uint16(n)}, nil
}

var errBadAddress = errors.New("not a HOST:PORT with a port from 1 to 65535")

// classify gives the code and the words with which a client is told of a
// failed dial.
func classify(err error) (mux.Code, string) {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, auth.ErrForbidden):
		return mux.Forbidden, "the server's policy does not allow it"
	case errors.Is(err, errNoTarget), errors.Is(err, syscall.ENOENT):
		return mux.NotFound, reasonText(err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return mux.NotFound, "the name does not resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		return mux.Refused, "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return mux.Unreachable, "no route to the target"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return mux.Busy, "the server has no free descriptors"
	case errors.Is(err, syscall.EAGAIN):
		return mux.Busy, "the target's queue is full" // of a unix socket
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return mux.Timeout, "the target did not answer in time"
	case errors.Is(err, context.Canceled):
		return mux.Cancelled, ""
	case errors.As(err, &dns):
		return mux.Failed, "the name cannot be resolved at the moment" // dns names our name server
	}
	return mux.Failed, reasonText(err)
}

// reasonText is the innermost error, without the server's own addresses.
func reasonText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		if errors.Is(err, errNoTarget) || errors.Is(err, errBadAddress) {
			return err.Error()
		}
		err = inner
	}
}
