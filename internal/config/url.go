package config

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"

	"adit/internal/hint"
	"adit/server"
	"adit/tunnel/dial"
)

// ServerURL checks the URL of a tunnel endpoint. A missing path becomes the
// server's default.
func ServerURL(s string) (string, error) {
	const hint = "write wss://HOST[:PORT][/PATH], e.g. wss://gw.example.com/tunnel"
	u, err := url.Parse(s)
	switch {
	case !strings.Contains(s, "://"):
		return "", noScheme(s)
	case err != nil:
		return "", bad(hint, "URL %q %s", Redact(s), urlFault(s, err))
	case u.Scheme == "http" || u.Scheme == "https":
		return "", bad("did you mean "+strings.Replace(withoutQuery(s), "http", "ws", 1)+"?", "URL %q: scheme %s is not a WebSocket's", Redact(s), u.Scheme)
	case u.Scheme != "wss" && u.Scheme != "ws":
		return "", bad(hint, "URL %q: scheme %q is not wss or ws", Redact(s), u.Scheme)
	case u.User != nil:
		return "", bad("put the token into a file and name it with --token-file, or set ADIT_TOKEN; a password too, with --user NAME", "URL %q carries a user name or password, which other users of this machine can read", Redact(s))
	case u.Fragment != "" || u.RawQuery != "" || strings.HasSuffix(s, "?"):
		return "", bad("write "+withoutQuery(s)+"; a token goes into a file that --token-file names, or into ADIT_TOKEN", "URL %q has a query or a fragment", Redact(s))
	}
	if err := checkURLHost(u, hint); err != nil {
		return "", err
	}
	if u.Path == "" {
		u.Path = server.DefaultTunnelPath
	}
	return u.String(), nil
}

// noScheme returns the error of a server's URL without a scheme, which may be a
// forward: chisel has them behind the URL.
func noScheme(s string) error {
	if err := unsupportedForward(s); err != nil {
		return bad(hint.Of(err), "%q is not the URL of a server: %s", s, err)
	}
	f, err := ParseForward(s)
	host, _, hasPort := strings.Cut(s, ":")
	if isHostPort := hasPort && strings.Count(s, ":") == 1 && !isPort(host); err == nil && !isHostPort && f.Target.Network != "unix" {
		return bad("did you mean the forward -L "+s+"?", "%q is not the URL of a server", s)
	}
	advice := "did you mean wss://" + withoutQuery(s) + "?"
	if err == nil && f.Target.Network == "tcp" {
		advice = "did you mean wss://" + s + ", or the forward -L " + s + "?"
	}
	return bad(advice, "URL %q has no scheme", Redact(s))
}

// ProxyURL checks the URL of an upstream proxy as package dial does, which knows
// the schemes. "none" is returned as it is.
func ProxyURL(s string) (string, error) {
	if s == "none" {
		return s, nil
	}
	u, err := dial.ParseProxyURL("", s)
	if err != nil {
		// The fault names the setting, so that the step is not needed.
		return "", hint.With(errors.Unwrap(err), hint.Of(err))
	}
	return u.String(), nil
}

// directoryURL checks the URL of an ACME directory.
func directoryURL(s string) (string, error) {
	const hint = "write https://acme-v02.api.letsencrypt.org/directory or your own server's directory URL"
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", bad(hint, "%q is not an https URL", Redact(s))
	}
	return s, checkURLHost(u, hint)
}

// checkURLHost checks the host and the port of a URL.
func checkURLHost(u *url.URL, hint string) error {
	host := u.Hostname()
	if host == "" {
		return bad(hint, "URL %q has no host", Redact(u.String()))
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if _, err := parseHost(host, false); err != nil {
		return bad(hint, "URL %q: %v", Redact(u.String()), err)
	}
	if strings.HasSuffix(u.Host, ":") {
		return bad(hint, "URL %q: the port is empty", Redact(u.String()))
	}
	if p := u.Port(); p != "" {
		if n, err := parsePort(p); err != nil || n == "0" {
			return bad(hint, "URL %q: port %q is not between 1 and 65535", Redact(u.String()), p)
		}
	}
	return nil
}

// Redact returns a text that may be a URL for messages: without its user name,
// password, query and fragment. A password that is not escaped may contain what
// the parser takes for the end of a host, a port or a path: everything before the
// last @ is hidden, and everything behind the scheme if there is a query too.
func Redact(s string) string {
	at, query := strings.LastIndexByte(s, '@'), strings.IndexAny(s, "?#")
	if at < 0 && query < 0 {
		return s
	}
	if at < 0 {
		return s[:query+1] + "xxxxx"
	}
	scheme := ""
	if i := strings.Index(s[:at], "://"); i >= 0 {
		scheme = s[:i+len("://")]
	}
	if query >= 0 {
		return scheme + "xxxxx"
	}
	return scheme + "xxxxx" + s[at:]
}

// withoutQuery returns what Redact leaves of a URL, for hints that suggest one.
func withoutQuery(s string) string {
	s, _, _ = strings.Cut(Redact(s), "?")
	s, _, _ = strings.Cut(s, "#")
	return s
}

// urlFault says why a URL does not parse. It says no more than that when the
// parser's reason could quote a part of a password, as a port for example.
func urlFault(s string, err error) string {
	if strings.Contains(s, "@") {
		return "is malformed"
	}
	return "is malformed: " + reason(err)
}

// reason is the cause in a url.Error, whose own text repeats the URL.
func reason(err error) string {
	if e, ok := err.(*url.Error); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// siteURL checks the address of the web server that has the site: an http or
// https URL, or unix:PATH with an absolute path.
func siteURL(s string) (string, error) {
	const hint = "write http://127.0.0.1:8080, https://intranet.lan, or unix:/run/site.sock"
	if strings.HasPrefix(s, "unix:") {
		a, _, err := parseUnix(s)
		if err == nil && !strings.HasPrefix(a.Address, "/") {
			err = bad(hint, "%q is not an absolute path", a.Address)
		}
		return a.String(), err
	}
	u, err := url.Parse(s)
	switch {
	case !strings.Contains(s, "://"):
		if !strings.HasPrefix(s, "/") {
			return "", bad("did you mean http://"+withoutQuery(s)+"?", "%q is not an http or https URL", Redact(s))
		}
		return "", bad(hint, "%q is not an http or https URL", s)
	case err != nil:
		return "", bad(hint, "URL %q %s", Redact(s), urlFault(s, err))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", bad(hint, "%q is not an http or https URL", Redact(s))
	case u.User != nil:
		return "", bad(hint, "URL %q carries a user name, which is not supported", Redact(s))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", bad(hint, "URL %q has a query or a fragment", Redact(s))
	}
	return s, checkURLHost(u, hint)
}

// isSiteURL reports whether --site names another web server, not a directory.
func isSiteURL(s string) bool {
	return strings.HasPrefix(s, "unix:") || strings.Contains(s, "://")
}

// ParseOrigin checks the origin of a web page as browsers send it,
// scheme://host[:port], or scheme://*.domain[:port] for all subdomains; "null";
// or that of an app or a file without a host: file://, app://.
func ParseOrigin(s string) (string, error) {
	const hint = "write https://app.example.com, https://*.example.com, or http://localhost:3000"
	shown := Redact(s)
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case s == "*":
		return "", bad("list the sites whose pages may connect: "+hint, "origin %q would let every web page connect", s)
	case s == "null":
		return s, nil
	case !ok:
		return "", bad(`did you mean "https://`+withoutQuery(s)+`"?`, "origin %q has no scheme", shown)
	case scheme == "" || strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "":
		return "", bad(hint, "origin %q: scheme %q is not valid", shown, scheme)
	case strings.Contains(rest, "@"):
		return "", bad(hint, "origin %q: an origin has no user", shown)
	case strings.ContainsAny(rest, "/?#"):
		return "", bad(`write "`+scheme+"://"+rest[:strings.IndexAny(rest, "/?#")]+`"`, "origin %q: an origin has no path, not even a slash", shown)
	}
	if web := strings.HasPrefix(scheme, "http") || strings.HasPrefix(scheme, "ws"); !web && (rest == "" || rest == ".") {
		return s, nil
	}
	host := strings.TrimPrefix(rest, "*.")
	fields, err := splitFields(host)
	if err != nil || len(fields) > 2 {
		return "", bad(hint, "origin %q: %q is not HOST or HOST:PORT", s, rest)
	}
	name, err := parseHost(fields[0], false)
	if err != nil {
		return "", bad(hint, "origin %q: %s", s, err)
	}
	if _, isIP := netip.ParseAddr(name); isIP == nil && host != rest {
		return "", bad(hint, "origin %q: an address has no subdomains", s)
	}
	if len(fields) == 2 {
		if n, err := parsePort(fields[1]); err != nil || n == "0" || n != fields[1] {
			return "", bad(hint, "origin %q: %q is not a port", s, fields[1])
		}
	}
	return s, nil
}
