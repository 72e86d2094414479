package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"adit/internal/audit"
	"adit/internal/descriptors"
	"adit/mux"
)

// routeConn is one client's connection to a route.
type routeConn struct {
	core   *core
	route  *route
	who    caller
	client netip.AddrPort
	rec    *recording
	log    *slog.Logger

	backend    net.Conn
	unanswered []string // subprotocols that the client offered, if none was answered
	release    []func() // called when the connection has ended, the last one first
}

func newRouteConn(core *core, r *http.Request, rt *route, who caller) *routeConn {
	client, user := core.clientAddr(r), ""
	if who.identity != nil {
		user = who.identity.Name
	}
	return &routeConn{
		core: core, route: rt, who: who, client: client,
		rec: core.record(audit.Route, newSessionID(), user, addrText(client), rt.id.String()),
		log: core.log.With("route", rt.id.String(), "user", userName(user), "addr", addrText(client)),
	}
}

// limit counts the connection against the route's limits, or returns why there
// may not be one more.
func (c *routeConn) limit() (full string) {
	release, full := c.route.limit.add(c.client.Addr(), c.route.MaxConns, c.route.MaxConnsPerAddress)
	if full == "" {
		c.release = append(c.release, release)
	}
	return full
}

// refuse answers without a WebSocket, and ends the connection. The client gets
// text; the log and the audit record get reason.
func (c *routeConn) refuse(w http.ResponseWriter, status int, result mux.Code, text string, reason any) {
	c.route.counters.refused.Add(routeRefusals[status])
	if c.core.refusals.allow(c.client) {
		attrs := []any{"status", status, "reason", reason}
		if err, ok := reason.(error); ok {
			attrs = append(attrs, cure(err)...)
		}
		c.log.Warn(routeRefused, attrs...)
	}
	c.rec.end(result.String(), fmt.Sprint(reason))
	http.Error(w, text, status)
	c.done()
}

// errAbandoned says that the client or the server went away during a connection
// attempt.
var errAbandoned = errors.New("abandoned")

// dial connects to a backend and sends the PROXY protocol header. It is abandoned
// when the client goes away or stopping ends.
func (c *routeConn) dial(r *http.Request, stopping context.Context) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stopping, cancel)()
	start := time.Now()
	backend, name, release, err := c.route.pool.dial(ctx, c.core.cfg.Resolver, c.route.ConnectTimeout)
	if err == nil {
		if err = introduce(backend, c.route, c.client, r); err != nil {
			backend.Close()
			release()
		}
	}
	gone := ctx.Err() != nil
	c.core.counters.routeDials.Add(dialResult(err, gone), time.Since(start))
	switch {
	case err != nil && gone:
		return fmt.Errorf("%w: %w", errAbandoned, err)
	case err != nil:
		return err
	}
	c.backend = backend
	c.release = append(c.release, release)
	c.log = c.log.With("backend", name)
	c.rec.dialed(backend)
	return nil
}

// introduce sends the backend the PROXY protocol header, if it wants one.
func introduce(backend net.Conn, rt *route, client netip.AddrPort, r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	header, err := proxyHeader(rt.ProxyProtocol, client, local)
	if err != nil || header == nil {
		return err
	}
	_, err = backend.Write(header) // it fits an empty send buffer
	return err
}

// refuseDial is refuse for an error of dial.
func (c *routeConn) refuseDial(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errAbandoned):
		c.log.Debug(routeRefused, "reason", err)
		c.rec.end(mux.Cancelled.String(), err.Error())
		c.done()
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.refuse(w, http.StatusGatewayTimeout, mux.Timeout, "504 the backend does not answer", err)
	default:
		if descriptors.Short(err) {
			c.core.shortage.Warn()
		}
		c.refuse(w, http.StatusBadGateway, mux.Unreachable, "502 the backend cannot be reached", err)
	}
}

// leavesAtOnce is the time within which a client leaves that misses the answer to
// its subprotocols.
const leavesAtOnce = 5 * time.Second

// explainLeaving logs which subprotocols a client offered, and what to configure,
// if it left at once because none was answered, as browsers do.
func (c *routeConn) explainLeaving(end *clientEnd, after time.Duration) {
	if len(c.unanswered) == 0 || !end.clientLeft.Load() || end.receivedBytes.Load() > 0 || after > leavesAtOnce || !c.core.subprotocols.allow(c.client) {
		return
	}
	offered := slices.DeleteFunc(slices.Clone(c.unanswered), isTokenSubprotocol)
	what := "the page must offer adit beside the token, or a subprotocol that the route lists"
	if len(offered) > 0 {
		what = fmt.Sprintf("if the backend speaks it, add subprotocols = [%q] to the route", truncate(offered[0]))
	}
	c.log.Warn(subprotocolUnanswered, "offered", truncate(strings.Join(offered, ", ")), "hint", what)
}

// done releases what the connection holds.
func (c *routeConn) done() {
	for _, f := range slices.Backward(c.release) {
		f()
	}
}
