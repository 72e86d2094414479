package server

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"adit/auth"
)

// tokenSubprotocol is the prefix of a subprotocol that carries a token,
// "adit.token.TOKEN", because the pages of a browser cannot set headers. The page
// offers it together with another one for the server to choose; it is never
// chosen itself.
const tokenSubprotocol = "adit.token."

// ticketParameter is the query parameter that carries a ticket, the other way for
// a browser.
const ticketParameter = "ticket"

// means is how a caller authenticated.
type means int

const (
	byNothing    means = iota // anonymous
	byHeader                  // Authorization, with or without a certificate
	byRemembered              // Basic from a browser, which may add it by itself
	byCertificate
	bySubprotocol
	byTicket
)

// caller is who sent a request.
type caller struct {
	identity *auth.Identity
	means    means
	proof    auth.Proof // of the credential, or of that for which the ticket was issued
}

// identify authenticates the sender of a request. A request with several
// credentials besides a certificate is refused: it would be ambiguous whose rights
// count. The route may be nil; the time taken does not depend on it.
func (c *core) identify(a *access, r *http.Request, rt *route) (caller, error) {
	shown := auth.Credentials{Authorization: r.Header.Get("Authorization"), Addr: c.clientAddr(r).Addr()}
	if c.cfg.CertNames != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		shown.CertNames = c.cfg.CertNames(r.TLS.VerifiedChains[0][0])
	}
	how := byHeader
	switch scheme, _, _ := strings.Cut(shown.Authorization, " "); {
	case shown.Authorization == "":
		how = byCertificate
	case isBrowser(r) && !strings.EqualFold(scheme, "Bearer"):
		how = byRemembered
	}
	tokens := subprotocolTokens(r.Header)
	tickets := queryTickets(r)
	given := len(tokens) + len(tickets)
	if shown.Authorization != "" {
		given++
	}
	switch {
	case given > 1:
		return caller{}, fmt.Errorf("%w: more than one of Authorization, token and ticket", auth.ErrRejected)
	case len(tokens) == 1:
		shown.Authorization, how = "Bearer "+tokens[0], bySubprotocol
	case len(tickets) == 1:
		who, err := c.redeem(a, tickets[0], rt, shown)
		c.counters.addRedeemed(err)
		return who, err
	}
	identity, proof, err := a.users.Authenticate(shown)
	switch {
	case errors.Is(err, auth.ErrNoCredentials) && a.anonymous != nil:
		return caller{identity: a.anonymous, means: byNothing}, nil
	case err != nil:
		return caller{}, err
	}
	return caller{identity, how, proof}, nil
}

// mayTunnel reports whether the tunnel accepts how the caller authenticated. The
// ways that are meant for web pages are for routes only.
func (c caller) mayTunnel() bool { return c.means != bySubprotocol && c.means != byTicket }

// hasSecret reports whether the caller presented a secret that a browser does not
// send by itself for any page.
func (c caller) hasSecret() bool {
	return c.means == byHeader || c.means == bySubprotocol || c.means == byTicket
}

// redeem authenticates by a ticket.
func (c *core) redeem(a *access, ticket string, rt *route, shown auth.Credentials) (caller, error) {
	var id routeID
	if rt != nil {
		id = rt.id
	}
	name, proof, err := c.tickets.check(ticket, id, time.Now())
	if err != nil {
		return caller{}, fmt.Errorf("%w: %w", auth.ErrRejected, err)
	}
	identity := a.users.Proved(name, proof)
	if identity == nil {
		return caller{}, fmt.Errorf("%w: the ticket's user or their credential has been removed", auth.ErrRejected)
	}
	if len(shown.CertNames) > 0 {
		holder, _, err := a.users.Authenticate(shown)
		if err == nil && holder != identity {
			return caller{}, fmt.Errorf("%w: certificate of user %q with the ticket of user %q", auth.ErrRejected, holder.Name, name)
		}
	}
	return caller{identity, byTicket, proof}, nil
}

// subprotocolTokens returns the tokens among the offered subprotocols.
func subprotocolTokens(h http.Header) []string {
	var tokens []string
	for p := range offeredSubprotocols(h) {
		if token, ok := strings.CutPrefix(p, tokenSubprotocol); ok {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// offeredSubprotocols iterates over the offered subprotocols, of which each may be
// malformed.
func offeredSubprotocols(h http.Header) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range h.Values("Sec-WebSocket-Protocol") {
			for p := range strings.SplitSeq(v, ",") {
				if !yield(strings.TrimSpace(p)) {
					return
				}
			}
		}
	}
}

// queryTickets returns the tickets in the query, which it parses only if there may
// be one.
func queryTickets(r *http.Request) []string {
	if !strings.Contains(r.URL.RawQuery, ticketParameter+"=") {
		return nil
	}
	return r.URL.Query()[ticketParameter]
}

// logRejected logs and counts a request that did not authenticate.
func (c *core) logRejected(r *http.Request, err error) {
	c.counters.addRejected(err)
	client := c.clientAddr(r)
	if errors.Is(err, auth.ErrNoCredentials) { // as every visitor of the site
		c.log.Debug("no credentials", "addr", addrText(client), "path", r.URL.Path)
		return
	}
	c.logFailure(client, r.URL.Path, err)
}
