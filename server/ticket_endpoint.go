package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// ticketPath, appended to a route's path, is where a user gets a ticket.
const ticketPath = "/.ticket"

// serveTicket answers a request for a ticket, if r is one: GET or POST of a
// route's own path followed by "/.ticket", by one of the route's users, with
// Authorization or a client certificate. The answer is JSON: "ticket", and
// "expires" as in RFC 3339. The ticket opens this route for this user, any number
// of times, until it expires (Config.TicketLifetime), the user or the credential
// for which it was issued is removed, or the server stops. serveTicket reports
// whether it has answered; the site answers all other requests.
func (c *core) serveTicket(w http.ResponseWriter, r *http.Request) bool {
	path, ok := strings.CutSuffix(r.URL.Path, ticketPath)
	if !ok {
		return false
	}
	if path == "" {
		path = "/"
	}
	a := c.access.Load()
	rt := a.routes.lookup(r.Host, path)
	if rt != nil && (rt.Path != path || rt.users == nil) {
		rt = nil
	}
	switch r.Method {
	case http.MethodGet, http.MethodPost:
	case http.MethodOptions:
		return rt != nil && rt.servePreflight(w, r)
	default:
		return false
	}
	// Also without a route: the time taken must not reveal whether there is one.
	who, err := c.identify(a, r, nil)
	if err != nil {
		c.logRejected(r, err)
		return false
	}
	if rt == nil || !rt.admits(who.identity) || !who.mayTunnel() {
		return false
	}
	log := c.log.With("route", rt.id.String(), "user", who.identity.Name, "addr", addrText(c.clientAddr(r)))
	if err := rt.origins.check(r, who); err != nil {
		c.counters.tickets.Add("refused")
		log.Warn("ticket refused", append([]any{"reason", err}, cure(err)...)...)
		http.Error(w, "403 "+errOriginForeign.Error(), http.StatusForbidden)
		return true
	}
	expires := time.Now().Add(c.cfg.TicketLifetime)
	c.counters.tickets.Add("issued")
	log.Info("ticket issued", "expires", expires)
	h := w.Header()
	rt.allowReading(h, r)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(struct {
		Ticket  string    `json:"ticket"`
		Expires time.Time `json:"expires"`
	}{c.tickets.make(who.identity.Name, who.proof, rt.id, expires), expires.UTC().Truncate(time.Second)})
	return true
}

// servePreflight answers a browser that asks whether a page may request a ticket
// with a token, if the page's origin is listed. It needs no credentials, because
// browsers send none; whoever knows a listed origin learns that there is a route.
func (rt *route) servePreflight(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	if r.Header.Get("Access-Control-Request-Method") == "" || !rt.allowReading(h, r) {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowReading lets a page of a listed origin read the answer, and reports whether
// it is one. Credentials that a browser adds by itself are not allowed.
func (rt *route) allowReading(h http.Header, r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) != 1 {
		return false
	}
	o, err := parseOrigin(values[0])
	if err != nil || !rt.origins.match(o) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", values[0])
	h.Add("Vary", "Origin")
	return true
}
