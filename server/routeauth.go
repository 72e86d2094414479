package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"adit/auth"
)

// tokenSubprotocol is how a browser, whose pages cannot set headers, sends a
// token: it offers "adit.token.TOKEN" as a subprotocol, together with a real
// one for the server to choose. It is never chosen itself.
const tokenSubprotocol = "adit.token."

// ticketParameter is the query parameter with a ticket: the other way for a
// browser.
const ticketParameter = "ticket"

// ticketPath, behind a route's path, is where a user gets a ticket.
const ticketPath = "/.ticket"

// means is how a caller said who they are.
type means int

const (
	byNothing    means = iota // anonymous
	byHeader                  // Authorization, with or without a certificate
	byRemembered              // the same, but Basic and by a browser, which may add it by itself
	byCertificate
	bySubprotocol
	byTicket
)

// caller is who sent a request.
type caller struct {
	identity *auth.Identity
	means    means
	proof    auth.Proof // of what they showed, or the ticket was given for
}

// identify finds out who sent a request. One who presents several credentials
// beside a certificate is refused: it would not be clear whose rights count.
// It takes the same time whatever the route, which may be nil.
func (s *Server) identify(a *access, r *http.Request, rt *route) (caller, error) {
	c := auth.Credentials{Authorization: r.Header.Get("Authorization"), Addr: s.clientAddr(r).Addr()}
	if s.cfg.CertNames != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.CertNames = s.cfg.CertNames(r.TLS.VerifiedChains[0][0])
	}
	how := byHeader
	switch scheme, _, _ := strings.Cut(c.Authorization, " "); {
	case c.Authorization == "":
		how = byCertificate
	case isBrowser(r) && !strings.EqualFold(scheme, "Bearer"):
		how = byRemembered
	}
	tokens := subprotocolTokens(r.Header)
	tickets := tickets(r)
	given := len(tokens) + len(tickets)
	if c.Authorization != "" {
		given++
	}
	switch {
	case given > 1:
		return caller{}, fmt.Errorf("%w: more than one of Authorization, token and ticket", auth.ErrRejected)
	case len(tokens) == 1:
		c.Authorization, how = "Bearer "+tokens[0], bySubprotocol
	case len(tickets) == 1:
		return s.redeem(a, tickets[0], rt, c)
	}
	identity, err := a.users.Authenticate(c)
	switch {
	case errors.Is(err, auth.ErrNoCredentials) && a.anonymous != nil:
		return caller{identity: a.anonymous, means: byNothing}, nil
	case err != nil:
		return caller{}, err
	}
	return caller{identity, how, a.users.Proof(identity, c)}, nil
}

// mayTunnel reports whether the caller said who they are in a way that the
// tunnel takes. What is made for web pages is for routes.
func (c caller) mayTunnel() bool { return c.means != bySubprotocol && c.means != byTicket }

// hasSecret reports whether the caller presented something that a browser does
// not send by itself, on whatever page.
func (c caller) hasSecret() bool {
	return c.means == byHeader || c.means == bySubprotocol || c.means == byTicket
}

// redeem finds out whose ticket it is.
func (s *Server) redeem(a *access, ticket string, rt *route, c auth.Credentials) (caller, error) {
	var id routeID
	if rt != nil {
		id = rt.id
	}
	name, proof, err := s.tickets.check(ticket, id, time.Now())
	if err != nil {
		return caller{}, fmt.Errorf("%w: %w", auth.ErrRejected, err)
	}
	identity := a.users.Proved(name, proof)
	if identity == nil {
		return caller{}, fmt.Errorf("%w: ticket of a user who is gone, or has other credentials now", auth.ErrRejected)
	}
	if len(c.CertNames) > 0 {
		holder, err := a.users.Authenticate(c)
		if err == nil && holder != identity {
			return caller{}, fmt.Errorf("%w: certificate of user %q with the ticket of user %q", auth.ErrRejected, holder.Name, name)
		}
	}
	return caller{identity, byTicket, proof}, nil
}

// subprotocolTokens returns the tokens among the subprotocols that are offered.
func subprotocolTokens(h http.Header) []string {
	var tokens []string
	for _, v := range h.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(p), tokenSubprotocol); ok {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens
}

// tickets returns the tickets in the query. The query is only parsed where one
// can be.
func tickets(r *http.Request) []string {
	if !strings.Contains(r.URL.RawQuery, ticketParameter+"=") {
		return nil
	}
	return r.URL.Query()[ticketParameter]
}

// serveTicket answers a request for a ticket, if r is one: GET or POST of a
// route's own path with "/.ticket" behind it, by one of the route's users, with
// Authorization or a client certificate. The answer is JSON: "ticket", and
// "expires" as in RFC 3339. The ticket opens this one route for this one user,
// as often as they like, until it expires (Config.TicketLifetime), the user or
// the credential that it was given for is removed, or the server stops. It
// reports whether it has answered; all others are for the site.
func (s *Server) serveTicket(w http.ResponseWriter, r *http.Request) bool {
	path, ok := strings.CutSuffix(r.URL.Path, ticketPath)
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodPost {
		return false
	}
	if path == "" {
		path = "/"
	}
	a := s.access.Load()
	rt := a.routes.lookup(r.Host, path)
	if rt != nil && (rt.Path != path || rt.users == nil) {
		rt = nil
	}
	// Judged whether there is such a route or not: it takes as long.
	who, err := s.identify(a, r, nil)
	if err != nil {
		s.logRejected(r, err)
		return false
	}
	if rt == nil || !rt.admits(who.identity) || !who.mayTunnel() {
		return false
	}
	log := s.log.With("route", rt.id.String(), "user", who.identity.Name, "addr", addrText(s.clientAddr(r)))
	if err := rt.originAllowed(r, who.hasSecret()); err != nil {
		log.Warn("ticket refused", "reason", err)
		http.Error(w, "403 "+errOriginForeign.Error(), http.StatusForbidden)
		return true
	}
	expires := time.Now().Add(s.cfg.TicketLifetime)
	log.Info("ticket given", "expires", expires)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(struct {
		Ticket  string    `json:"ticket"`
		Expires time.Time `json:"expires"`
	}{s.tickets.make(who.identity.Name, who.proof, rt.id, expires), expires.UTC().Truncate(time.Second)})
	return true
}

// ticketKey signs tickets. It lives as long as the server.
type ticketKey [32]byte

func newTicketKey() (k ticketKey) {
	rand.Read(k[:]) // never fails
	return k
}

var (
	errTicketForged  = errors.New("the ticket is not one of ours for this route")
	errTicketExpired = errors.New("the ticket has expired")
)

// maxTicket is more than the length of any ticket: 8 bytes of time, 16 of proof,
// a name of up to 128 bytes and 32 of signature, in base64.
const maxTicket = 256

// make makes a ticket: the time when it expires in Unix seconds (8 bytes, big
// endian), the proof, the user's name, and the signature of all that and the
// route; all in base64url without padding.
func (k *ticketKey) make(user string, proof auth.Proof, id routeID, expires time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	b = append(b, proof[:]...)
	b = append(b, user...)
	return base64.RawURLEncoding.EncodeToString(append(b, k.sign(b, id)...))
}

// check returns whose ticket it is, and the proof that it was given for.
func (k *ticketKey) check(ticket string, id routeID, now time.Time) (user string, proof auth.Proof, err error) {
	if len(ticket) > maxTicket {
		return "", proof, errTicketForged
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil || len(b) < 8+len(proof)+sha256.Size {
		return "", proof, errTicketForged
	}
	content, signature := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(signature, k.sign(content, id)) {
		return "", proof, errTicketForged
	}
	if uint64(now.Unix()) >= binary.BigEndian.Uint64(content) {
		return "", proof, errTicketExpired
	}
	name := content[8+copy(proof[:], content[8:]):]
	return string(name), proof, nil
}

func (k *ticketKey) sign(content []byte, id routeID) []byte {
	m := hmac.New(sha256.New, k[:])
	// No part has a NUL: where one ends is not open to interpretation.
	fmt.Fprintf(m, "adit ticket\x00%s\x00%s\x00%t\x00", id.host, id.path, id.exact)
	m.Write(content)
	return m.Sum(nil)
}
