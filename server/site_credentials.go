package server

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"adit/auth"
)

// serveSite lets the site answer a request, without the credentials in it that are
// for this server: the site may be another web server, which must not learn them.
func (c *core) serveSite(w http.ResponseWriter, r *http.Request) {
	c.cfg.Site.ServeHTTP(w, withoutCredentials(r, c.access.Load().users))
}

// withoutCredentials returns r without the Authorization, the token subprotocols
// and the tickets that this server recognizes, whether or not they are valid. It
// returns r itself if there are none.
func withoutCredentials(r *http.Request, users *auth.Users) *http.Request {
	authorization := slices.ContainsFunc(r.Header.Values("Authorization"), users.Recognizes)
	tokens := len(subprotocolTokens(r.Header)) > 0
	query := withoutTickets(r.URL.RawQuery)
	if !authorization && !tokens && query == r.URL.RawQuery {
		return r
	}
	clean := r.Clone(r.Context())
	if authorization {
		clean.Header.Del("Authorization")
	}
	if tokens {
		var others []string
		for p := range offeredSubprotocols(r.Header) {
			if !isTokenSubprotocol(p) {
				others = append(others, p)
			}
		}
		if clean.Header.Del("Sec-WebSocket-Protocol"); len(others) > 0 {
			clean.Header.Set("Sec-WebSocket-Protocol", strings.Join(others, ", "))
		}
	}
	if query != r.URL.RawQuery {
		clean.URL.RawQuery = query
		clean.RequestURI = clean.URL.RequestURI()
	}
	return clean
}

// withoutTickets returns a query without the tickets of this server. The rest of
// it stays as it is.
func withoutTickets(query string) string {
	if !strings.Contains(query, "=") {
		return query
	}
	parts := strings.Split(query, "&")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool {
		name, value, _ := strings.Cut(part, "=")
		name, errName := url.QueryUnescape(name)
		value, errValue := url.QueryUnescape(value)
		return errName == nil && errValue == nil && name == ticketParameter && isTicket(value)
	}), "&")
}

// isTicket reports whether text has the form of a ticket: of this server or of
// another process, for any route, expired or not. Other servers have parameters of
// the same name, whose values do not begin with four bytes of 0.
func isTicket(text string) bool {
	if len(text) > maxTicket {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) >= minTicket && b[0]|b[1]|b[2]|b[3] == 0
}
