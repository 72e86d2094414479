package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// origin is a web origin, RFC 6454, with the port always told.
type origin struct {
	scheme, host, port string
}

// defaultPorts are those that a URL leaves out.
var defaultPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}

// parseOrigin reads the value of an Origin header. "null" and everything that
// is not scheme://host[:port] is refused.
func parseOrigin(s string) (origin, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || !isScheme(scheme) {
		return origin{}, fmt.Errorf("%q is not scheme://host[:port]", cut(s))
	}
	host, port := splitHostPort(rest)
	if strings.Contains(host, ":") != strings.HasPrefix(rest, "[") || !isHostName(host) {
		return origin{}, fmt.Errorf("%q has a bad host", cut(s))
	}
	if strings.HasSuffix(rest, ":") || port != "" && !isPort(port) {
		return origin{}, fmt.Errorf("%q has a bad port", cut(s))
	}
	if port == "" {
		port = defaultPorts[scheme]
	}
	return origin{scheme, foldHost(host), port}, nil
}

func isScheme(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(c))) {
			return false
		}
	}
	return s != ""
}

// isPort reports a port as browsers write it: 1 to 65535, no zero in front.
func isPort(s string) bool {
	if len(s) > 5 || s == "" || s[0] == '0' {
		return false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// originPattern is an entry of Route.Origins.
type originPattern struct {
	origin
	subdomains bool // any of the host's, not the host itself
}

func parseOriginPattern(s string) (originPattern, error) {
	exact := strings.Replace(s, "://*.", "://", 1)
	o, err := parseOrigin(exact)
	switch {
	case err != nil:
		return originPattern{}, fmt.Errorf("%w, such as https://app.example.com, nor scheme://*.domain", err)
	case exact != s && strings.Contains(o.host, ":"):
		return originPattern{}, fmt.Errorf("%q: an IP address has no subdomains", s)
	}
	return originPattern{o, exact != s}, nil
}

func (p originPattern) matches(o origin) bool {
	if p.scheme != o.scheme || p.port != o.port {
		return false
	}
	if p.subdomains {
		return strings.HasSuffix(o.host, "."+p.host)
	}
	return p.host == o.host
}

var (
	errOriginForeign = errors.New("the page's origin is not allowed")
	errOriginMissing = errors.New("there is no Origin, and the route has a list of them")
	errOriginHidden  = errors.New("a browser does not tell the page's Origin")
)

// originAllowed decides whether the web page that a request comes from may
// connect. Browsers send the Origin of the page, once, and pages cannot change
// it; other programs send none, or what they like: so this protects the users
// of browsers, and nobody relies on it for anything else. withSecret says that
// the caller has presented a token, a password or a ticket, which a page must
// know to have them sent; a certificate is none of these, nor is a password
// that a browser sends: a browser adds them by itself.
//
//   - More than one Origin: refused.
//   - A route with Origins: the Origin must match one of them, with scheme,
//     host and port; the port that the scheme implies may be left out on
//     either side, and case does not matter. Without an Origin only a caller
//     with a secret passes.
//   - A route without Origins: the Origin's host and port must be those of the
//     request's Host header. A Host without a port stands for the port that
//     the Origin's scheme implies; a scheme is not compared, since a proxy in
//     front may have taken TLS away. Without an Origin everybody passes
//     but a browser, as its User-Agent has it, without a secret: Firefox behind
//     an HTTP proxy leaves the Origin out of an extended CONNECT (RFC 8441), so
//     that any site's page may be asking.
//   - The origin "null", of files and sandboxed pages, matches nothing.
func (r *route) originAllowed(req *http.Request, withSecret bool) error {
	values := req.Header.Values("Origin")
	switch {
	case len(values) > 1:
		return errors.New("more than one Origin")
	case len(values) == 0 && len(r.origins) > 0 && !withSecret:
		return errOriginMissing
	case len(values) == 0 && isBrowser(req) && !withSecret:
		return errOriginHidden
	case len(values) == 0:
		return nil
	}
	o, err := parseOrigin(values[0])
	if err != nil {
		return fmt.Errorf("%w: %w", errOriginForeign, err)
	}
	if len(r.origins) == 0 {
		if o.sameHost(req.Host) {
			return nil
		}
		return fmt.Errorf("%w: %q is not %q", errOriginForeign, cut(values[0]), cut(req.Host))
	}
	for _, p := range r.origins {
		if p.matches(o) {
			return nil
		}
	}
	return fmt.Errorf("%w: %q is not in the list", errOriginForeign, cut(values[0]))
}

// isBrowser tells a browser by the way that all of them begin to name
// themselves, with a platform in parentheses.
func isBrowser(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Mozilla/5.0 (") }

// sameHost compares with a Host header.
func (o origin) sameHost(hostport string) bool {
	host, port := splitHostPort(hostport)
	if port == "" {
		port = defaultPorts[o.scheme]
	}
	return host != "" && foldHost(host) == o.host && port == o.port
}

// fromForeignPage reports whether a web page of another site sent a request to
// the tunnel. A browser adds its user's client certificate or password to it by
// itself; clients of the tunnel send no Origin.
func fromForeignPage(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return false
	}
	o, err := parseOrigin(values[0])
	return err != nil || len(values) > 1 || !o.sameHost(r.Host)
}
