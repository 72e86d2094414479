package config

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

func parseInt(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, bad("write a whole number between "+strconv.Itoa(low)+" and "+strconv.Itoa(high), "%q is not a number", s)
	}
	if n < low || n > high {
		return 0, bad("write a whole number between "+strconv.Itoa(low)+" and "+strconv.Itoa(high), "%d is out of range", n)
	}
	return n, nil
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, bad("write true or false", "%q is neither true nor false", s)
}

// duration makes a parser of durations within bounds.
func duration(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		const hint = `write a number with a unit, e.g. "30s", "500ms" or "5m"`
		d, err := time.ParseDuration(s)
		if err != nil {
			if _, numErr := strconv.ParseFloat(s, 64); numErr == nil && s != "0" {
				return 0, bad(hint, "%q has no unit", s)
			}
			return 0, bad(hint, "%q is not a duration", s)
		}
		if d < low || d > high {
			return 0, bad("write a duration between "+short(low)+" and "+short(high), "%q is out of range", s)
		}
		return d, nil
	}
}

// short is Duration.String without the zero units: "24h" for "24h0m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// plain accepts any text without control characters that is not empty.
func plain(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", bad("leave it out, or give it a value", "is empty")
	}
	for _, c := range s {
		if c < 0x20 || c == 0x7f {
			return "", bad("write it on one line, without control characters", "%q contains a control character", s)
		}
	}
	return s, nil
}

// filePath accepts the name of a file or directory. It is not opened here.
func filePath(s string) (string, error) {
	if s == "" {
		return "", bad("write the path of a file, e.g. /etc/adit/fullchain.pem", "is empty")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return "", bad("write the path of a file, e.g. /etc/adit/fullchain.pem", "%q contains a zero byte", s)
	}
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		// A shell expands this, a configuration file does not.
		return "", bad("write the whole path, e.g. /home/me/"+rest, "%q: a configuration does not expand ~", s)
	}
	return s, nil
}

func logLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, bad("write debug, info, warn or error", "%q is not a log level", s)
}

func logFormat(s string) (string, error) {
	return oneOf("log format", "text", "json", "journal")(s)
}

// oneOf makes a parser of a choice; what says of what.
func oneOf(what string, choices ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(choices, s) {
			return s, nil
		}
		hint := "write " + strings.Join(choices[:len(choices)-1], ", ") + " or " + choices[len(choices)-1]
		if m := Nearest(s, choices); m != "" {
			hint = "did you mean " + m + "?"
		}
		return "", bad(hint, "%q is not a %s", s, what)
	}
}

// tunnelPath, routePath and pagePath differ in their examples only.
func tunnelPath(s string) (string, error) { return urlPath(s, "/tunnel") }
func routePath(s string) (string, error)  { return urlPath(s, "/json") }
func pagePath(s string) (string, error)   { return urlPath(s, "/console") }

// urlPath accepts the path of something that the server has.
func urlPath(s, example string) (string, error) {
	hint := `write an absolute path without a query, e.g. "` + example + `"`
	switch {
	case !strings.HasPrefix(s, "/"):
		return "", bad(hint, "path %q does not begin with /", s)
	case strings.ContainsAny(s, "?#%\\"):
		return "", bad(hint, "path %q contains one of ? # %% \\", s)
	case path.Clean(s) != s:
		return "", bad(`write "`+path.Clean(s)+`"`, "path %q is not in its shortest form", s)
	}
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return "", bad(hint, "path %q contains a blank, a control or a non-ASCII character", s)
		}
	}
	return s, nil
}

// ServerURL checks the URL of a tunnel endpoint. A missing path becomes
// /tunnel, the server's default.
func ServerURL(s string) (string, error) {
	const hint = "write wss://HOST[:PORT][/PATH], e.g. wss://gw.example.com/tunnel"
	u, err := url.Parse(s)
	if err != nil {
		if !strings.Contains(s, "://") {
			return "", bad("did you mean wss://"+redact(s)+"?", "URL %q has no scheme", redact(s))
		}
		return "", bad(hint, "URL %q %s", redact(s), urlFault(s, err))
	}
	switch {
	case !strings.Contains(s, "://"):
		return "", bad("did you mean wss://"+redact(s)+"?", "URL %q has no scheme", redact(s))
	case u.Scheme == "http" || u.Scheme == "https":
		return "", bad("did you mean "+strings.Replace(redact(s), "http", "ws", 1)+"?", "URL %q: scheme %s is not a WebSocket's", redact(s), u.Scheme)
	case u.Scheme != "wss" && u.Scheme != "ws":
		return "", bad(hint, "URL %q: scheme %q is not wss or ws", redact(s), u.Scheme)
	case u.User != nil:
		return "", bad("put the token into a file and name it with --token-file, or set ADIT_TOKEN; a password too, with --user NAME", "URL %q carries a user name or password, which others on this machine could read", redact(s))
	case u.Fragment != "" || u.RawQuery != "" || strings.HasSuffix(s, "?"):
		return "", bad(hint, "URL %q has a query or a fragment", redact(s))
	}
	if err := checkURLHost(u, hint); err != nil {
		return "", err
	}
	if u.Path == "" {
		u.Path = "/tunnel"
	}
	return u.String(), nil
}

// ProxyURL checks the URL of an upstream proxy: http, https, socks5 or
// socks5h, with or without a user and password; a bare HOST:PORT means http.
// "none" is returned as it is.
func ProxyURL(s string) (string, error) {
	const hint = "write http://proxy.corp:3128, https://…, socks5://… or socks5h://…, or none for a direct connection"
	if s == "none" {
		return s, nil
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "", bad(hint, "proxy %q is not a URL with a host", redact(s))
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return "", bad(hint, "proxy %q: scheme %q is not known", redact(s), u.Scheme)
	}
	if err := checkURLHost(u, hint); err != nil {
		return "", err
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", bad(hint, "proxy %q: a proxy has no path", redact(s))
	}
	return s, nil
}

// directoryURL checks the URL of an ACME directory.
func directoryURL(s string) (string, error) {
	const hint = "write https://acme-v02.api.letsencrypt.org/directory or your own server's directory URL"
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", bad(hint, "%q is not an https URL", redact(s))
	}
	return s, checkURLHost(u, hint)
}

func checkURLHost(u *url.URL, hint string) error {
	host := u.Hostname()
	if host == "" {
		return bad(hint, "URL %q has no host", redact(u.String()))
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if _, err := parseHost(host, false); err != nil {
		return bad(hint, "URL %q: %v", redact(u.String()), err)
	}
	if strings.HasSuffix(u.Host, ":") {
		return bad(hint, "URL %q: the port is empty", redact(u.String()))
	}
	if p := u.Port(); p != "" {
		if n, err := parsePort(p); err != nil || n == "0" {
			return bad(hint, "URL %q: port %q is not between 1 and 65535", redact(u.String()), p)
		}
	}
	return nil
}

// redact hides a user name and a password in a URL, also where the password was
// not escaped and the URL does not parse, or as another one: all before the
// last @.
func redact(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	from := 0
	if i := strings.Index(s[:at], "://"); i >= 0 {
		from = i + len("://")
	}
	return s[:from] + "xxxxx" + s[at:]
}

// urlFault says why a URL does not parse, unless that could show a part of a
// password: what the parser takes for a port, for example.
func urlFault(s string, err error) string {
	if strings.Contains(s, "@") {
		return "is malformed"
	}
	return "is malformed: " + reason(err)
}

// reason is the innermost part of a url.Error, which repeats the URL.
func reason(err error) string {
	if e, ok := err.(*url.Error); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// Header is one extra request header.
type Header struct{ Name, Value string }

// parseHeader reads "Name: value".
func parseHeader(s string) (Header, error) {
	const hint = `write "Name: value", e.g. --header "X-Team: db"`
	name, val, ok := strings.Cut(s, ":")
	if !ok {
		return Header{}, bad(hint, "header %q has no colon", s)
	}
	if name == "" || !onlyTokenChars(name) {
		return Header{}, bad(hint, "header name %q is not valid", name)
	}
	val = strings.TrimSpace(val)
	for i := range len(val) {
		if val[i] < 0x20 && val[i] != '\t' || val[i] == 0x7f {
			return Header{}, bad(hint, "the value of header %q contains a control character", name)
		}
	}
	name = http.CanonicalHeaderKey(name)
	switch {
	case name == "Host":
		return Header{}, bad("use --host NAME", "header Host has its own flag")
	case name == "Authorization" || name == "Proxy-Authorization":
		return Header{}, bad("use --token-file FILE or ADIT_TOKEN (and --user NAME for a password); a proxy's password goes into its URL in HTTPS_PROXY", "header %s would show a secret to others on this machine", name)
	case name == "Upgrade" || name == "Connection" || name == "Content-Length" || name == "Transfer-Encoding" || strings.HasPrefix(name, "Sec-Websocket-"):
		return Header{}, bad(hint, "header %s belongs to the WebSocket handshake and cannot be set", name)
	}
	return Header{name, val}, nil
}

const tokenChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func onlyTokenChars(s string) bool {
	for i := range len(s) {
		if strings.IndexByte(tokenChars, s[i]) < 0 {
			return false
		}
	}
	return true
}

// Secret is a token or password. It prints as "(secret)" so that it cannot
// slip into a message or a log.
type Secret string

func (Secret) String() string   { return "(secret)" }
func (Secret) GoString() string { return "(secret)" }

// LogValue keeps the secret out of slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText keeps the secret out of encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// ParseSecret checks a token or password: one line, not empty, printable.
func ParseSecret(s string) (Secret, error) {
	const hint = "it is one line of printable text, as `adit token` prints between the quotes"
	s = strings.TrimRight(s, "\r\n")
	if s == "" {
		return "", bad(hint, "the secret is empty")
	}
	if len(s) > 4096 {
		return "", bad(hint, "the secret is longer than 4096 bytes")
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return "", bad(hint, "the secret has several lines or contains a control character")
		}
	}
	return Secret(s), nil
}

// ReadSecret reads a token file: the token alone, or the line token = "…" that
// adit token prints. The error never shows the content.
func ReadSecret(file string) (Secret, error) {
	data, err := readBounded(file)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(data))
	for line := range strings.Lines(s) {
		name, val, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(name) == "token" {
			s = strings.Trim(strings.TrimSpace(val), `"`)
			break
		}
	}
	sec, err := ParseSecret(s)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", file, err)
	}
	return sec, nil
}

// ReadableByOthers reports whether the file's mode lets users other than its
// owner and group read it.
func ReadableByOthers(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0
}

// domain accepts a DNS name that an ACME authority can certify.
func domain(s string) (string, error) {
	const hint = "write a public DNS name, e.g. gw.example.com"
	if why := hostNameFault(s); why != "" {
		return "", bad(hint, "domain %q %s", s, why)
	}
	if !strings.Contains(strings.Trim(s, "."), ".") {
		return "", bad(hint, "domain %q has no dot", s)
	}
	return strings.ToLower(strings.TrimSuffix(s, ".")), nil
}

func email(s string) (string, error) {
	local, host, ok := strings.Cut(s, "@")
	if !ok || local == "" || hostNameFault(host) != "" || strings.ContainsAny(s, " \t<>,") {
		return "", bad("write one address, e.g. admin@example.com", "%q is not an e-mail address", s)
	}
	return s, nil
}

// hostName accepts a name or an address for SNI and verification.
func hostName(s string) (string, error) {
	if looksLikeIPv6(s) {
		return s, nil
	}
	return parseHost(s, false)
}

// hostHeader accepts HOST or HOST:PORT.
func hostHeader(s string) (string, error) {
	const hint = "write a host name, e.g. gw.example.com or gw.example.com:8443"
	fields, err := splitFields(s)
	if err != nil || len(fields) > 2 {
		return "", bad(hint, "host %q is not HOST or HOST:PORT", s)
	}
	if _, err := parseHost(fields[0], false); err != nil {
		return "", err
	}
	if len(fields) == 2 {
		if _, err := parsePort(fields[1]); err != nil {
			return "", err
		}
	}
	return s, nil
}

// userName accepts what HTTP Basic can carry.
func userName(s string) (string, error) {
	if _, err := plain(s); err != nil {
		return "", err
	}
	if name, _, ok := strings.Cut(s, ":"); ok { // what follows is likely a password
		return "", bad("write the name of a [[user]] on the server, e.g. alice; the password goes into the token file", "user \"%s:…\" contains a colon", name)
	}
	return s, nil
}

func targetName(s string) (string, error) {
	const hint = `write a letter, then letters, digits, - or _, e.g. name = "ssh"`
	switch {
	case !IsTargetName(s):
		return "", bad(hint, "%q cannot be the name of a target", s)
	case s == "socks" || s == "stdio" || s == "R" || s == "unix" || s == "systemd":
		return "", bad(hint, "%q is a word of the forward syntax and cannot be the name of a target", s)
	}
	return s, nil
}

func quoted(s string) string { return strconv.Quote(s) }

// serverOrder is "given" or "random".
func serverOrder(s string) (string, error) {
	if s != "given" && s != "random" {
		return "", bad("given tries them as they are listed and prefers the first, random spreads many clients", "unknown order %q", s)
	}
	return s, nil
}
