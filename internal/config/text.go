package config

import (
	"io/fs"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"adit/server"
)

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
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", bad(pathHint, "%q contains a control character", s)
	}
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		return "", bad("write the whole path, e.g. /home/me/"+rest, "%q: a configuration does not expand ~", s)
	}
	return s, nil
}

// tunnelPath, routePath and pagePath differ in their examples only.
func tunnelPath(s string) (string, error) { return urlPath(s, "/tunnel") }
func routePath(s string) (string, error)  { return urlPath(s, "/json") }
func pagePath(s string) (string, error)   { return urlPath(s, "/console") }

// urlPath accepts the URL path of something that the server has, without a slash
// at the end.
func urlPath(s, example string) (string, error) {
	hint := `write an absolute path without a query, e.g. "` + example + `"`
	switch {
	case !strings.HasPrefix(s, "/"):
		return "", bad(hint, "path %q does not begin with /", s)
	case isEscaped(s):
		plain, _ := url.PathUnescape(s)
		return "", bad(`write "`+plain+`"`, "path %q is escaped", s)
	case strings.ContainsAny(s, "?#%\\"):
		return "", bad(hint, "path %q contains one of ? # %% \\", s)
	case path.Clean(s) != s:
		return "", bad(`write "`+path.Clean(s)+`"`, "path %q is not in its shortest form", s)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }):
		return "", bad(hint, "path %q contains a blank or a control character", s)
	}
	if fixed, pattern := server.PathPattern(s); pattern != "" {
		return "", bad(`write "`+fixed+`": a route is for everything below its path, too`, "path %q contains %q, which is taken literally", s, pattern)
	}
	return s, nil
}

// subprotocol accepts the name of a WebSocket subprotocol (RFC 6455, section 11.5).
func subprotocol(s string) (string, error) {
	switch {
	case !httpguts.ValidHeaderFieldName(s): // tests for a token, which a subprotocol is
		return "", bad(`write each by itself, e.g. ["mqtt", "v12.stomp"]`, "%q is not a subprotocol", s)
	case strings.HasPrefix(s, "adit.token."):
		return "", bad("leave it out: pages may always offer their token", "%q is how clients send a token", "adit.token.…")
	}
	return s, nil
}

// fileMode accepts permissions in octal, of which the owner needs to write.
func fileMode(s string) (fs.FileMode, error) {
	const hint = `write the mode in octal and in quotes, e.g. "0660" for the group or "0666" for everyone`
	n, err := strconv.ParseUint(s, 8, 32)
	switch {
	case err != nil || n > 0o777:
		return 0, bad(hint, "mode %q is not between 0000 and 0777", s)
	case n&0o200 == 0:
		return 0, bad(hint, "mode %q lets not even the owner connect", s)
	}
	return fs.FileMode(n), nil
}

// isEscaped reports whether s is a path as a URL has it, of which the characters
// can be written as they are.
func isEscaped(s string) bool {
	plain, err := url.PathUnescape(s)
	return err == nil && plain != s && path.Clean(plain) == plain && !strings.ContainsAny(plain, "?#%\\ ") &&
		utf8.ValidString(plain) && !strings.ContainsFunc(plain, unicode.IsControl)
}

// domain accepts a DNS name that an ACME authority can certify.
func domain(s string) (string, error) {
	const hint = "write a public DNS name, e.g. gw.example.com"
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return "", bad("write the DNS name that clients use, e.g. gw.example.com; without one use --self-signed DIR, and give clients the pin", "%q is an IP address: authorities certify names by ACME as adit speaks it", s)
	}
	if why := hostNameFault(s); why != "" {
		return "", bad(hint, "domain %q %s", s, why)
	}
	if !strings.Contains(strings.Trim(s, "."), ".") {
		return "", bad(hint, "domain %q has no dot", s)
	}
	return strings.ToLower(strings.TrimSuffix(s, ".")), nil
}

// email accepts one address without a display name.
func email(s string) (string, error) {
	local, host, ok := strings.Cut(s, "@")
	if !ok || local == "" || hostNameFault(host) != "" || strings.ContainsAny(s, " \t<>,") {
		return "", bad("write one address, e.g. admin@example.com", "%q is not an e-mail address", s)
	}
	return s, nil
}

// hostName accepts a host name or an IP address, IPv6 with or without brackets.
func hostName(s string) (string, error) {
	if looksLikeIPv6(s) {
		return s, nil
	}
	return parseHost(s, false)
}

// userName accepts a name that HTTP Basic can carry: one without a colon.
func userName(s string) (string, error) {
	if _, err := plain(s); err != nil {
		return "", err
	}
	// What follows a colon is likely a password: it is not shown.
	if name, _, ok := strings.Cut(s, ":"); ok {
		return "", bad("write the name of a [[user]] on the server, e.g. alice; the password goes into the token file", "user \"%s:…\" contains a colon", name)
	}
	return s, nil
}

// targetName accepts a name that forwards can use without being ambiguous.
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
