package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"adit/internal/hint"
)

// origin is a web origin, RFC 6454, with its port where the scheme implies one.
// The origin "null" has only a scheme, and so have the origins of some apps and,
// in some browsers, of files.
type origin struct {
	scheme, host, port string
}

// nullOrigin is the origin of sandboxed pages, and in most browsers of files.
var nullOrigin = origin{scheme: "null"}

// defaultPorts are the ports that the scheme of a URL implies.
var defaultPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}

// parseOrigin parses the value of an Origin header: scheme://host[:port], "null",
// or that of an app or a file without a host, such as file://.
func parseOrigin(s string) (origin, error) {
	if s == "null" {
		return nullOrigin, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || !isScheme(scheme) {
		return origin{}, fmt.Errorf("%q is not scheme://host[:port]", truncate(s))
	}
	if rest == "" && defaultPorts[scheme] == "" {
		return origin{scheme: scheme}, nil
	}
	host, port := splitHostPort(rest)
	if strings.Contains(host, ":") != strings.HasPrefix(rest, "[") || !isHostName(host) {
		return origin{}, fmt.Errorf("%q has a bad host", truncate(s))
	}
	if strings.HasSuffix(rest, ":") || port != "" && !isPort(port) {
		return origin{}, fmt.Errorf("%q has a bad port", truncate(s))
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

// isPort reports whether s is a port as browsers write it: 1 to 65535, without a
// leading zero.
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
	subdomains bool // matches every subdomain of the host, not the host itself
}

func parseOriginPattern(s string) (originPattern, error) {
	exact := strings.Replace(s, "://*.", "://", 1)
	o, err := parseOrigin(exact)
	switch {
	case err != nil:
		return originPattern{}, fmt.Errorf("%w, such as https://app.example.com, nor scheme://*.domain", err)
	case exact != s && o.host == "":
		return originPattern{}, fmt.Errorf("%q has no domain", s)
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
	errOriginMissing = errors.New("the Origin is missing, and the route allows only some")
	errOriginHidden  = errors.New("a browser omits the page's Origin")
	errOriginNull    = errors.New("the page's origin is null, which every page can have, and its browser adds the certificate or password by itself")
)

// originList is Route.Origins.
type originList []originPattern

// check decides whether the web page that a request comes from may connect.
// Browsers send the Origin of the page, once, and pages cannot change it; other
// programs send none, or any. So it protects the users of browsers, and nothing
// else depends on it. A caller's secret is a token, a password or a ticket, which a
// page must know to have it sent. A certificate is no such secret, nor is a
// password that a browser sends: a browser adds them by itself.
//
//   - More than one Origin: refused.
//   - A list that is not empty: the Origin must match one of the patterns, with
//     scheme, host and port; the port that the scheme implies may be left out on
//     either side, and case does not matter. Without an Origin only a caller
//     with a secret passes.
//   - An empty list: the Origin's host and port must be those of the request's
//     Host header. A Host without a port stands for the port that the Origin's
//     scheme implies; the scheme is not compared, because a proxy in front may
//     have terminated TLS. Without an Origin every caller passes, except a
//     browser, recognized by its User-Agent, without a secret: Firefox behind an
//     HTTP proxy omits the Origin of an extended CONNECT (RFC 8441), so that the
//     page of any site may be asking.
//   - The origin "null", of files and sandboxed pages, matches only "null" in the
//     list. Every page can have it, so that it lets nobody in by what a browser
//     adds by itself.
func (l originList) check(req *http.Request, who caller) error {
	values, withSecret := req.Header.Values("Origin"), who.hasSecret()
	switch {
	case len(values) > 1:
		return errors.New("more than one Origin")
	case len(values) == 0 && len(l) > 0 && !withSecret:
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
	if len(l) == 0 {
		if o.sameHost(req.Host) {
			return nil
		}
		return hint.Errorf(fmt.Sprintf("list the pages that may connect, origins = [%q]; or, if a proxy in front changes Host, let it pass the browser's on (nginx: proxy_set_header Host $http_host)", truncate(values[0])),
			"%w: %q is not %q", errOriginForeign, truncate(values[0]), truncate(req.Host))
	}
	switch {
	case !l.match(o):
		return hint.Errorf(fmt.Sprintf("if pages of %s may connect, add %q to the route's origins", truncate(values[0]), truncate(values[0])),
			"%w: %q is not in the list", errOriginForeign, truncate(values[0]))
	case o == nullOrigin && (who.means == byCertificate || who.means == byRemembered):
		return errOriginNull
	}
	return nil
}

func (l originList) match(o origin) bool {
	return slices.ContainsFunc(l, func(p originPattern) bool { return p.matches(o) })
}

// isBrowser recognizes a browser by the way that the User-Agent of all of them
// begins, with a platform in parentheses.
func isBrowser(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Mozilla/5.0 (") }

// sameHost reports whether a Host header has the origin's host and port.
func (o origin) sameHost(hostport string) bool {
	host, port := splitHostPort(hostport)
	if port == "" {
		port = defaultPorts[o.scheme]
	}
	return host != "" && foldHost(host) == o.host && port == o.port
}

// fromForeignPage reports whether a web page of another site sent a request to
// the tunnel. A browser adds its user's client certificate or password to the
// request by itself; clients of the tunnel send no Origin.
func fromForeignPage(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return false
	}
	o, err := parseOrigin(values[0])
	return err != nil || len(values) > 1 || !o.sameHost(r.Host)
}
