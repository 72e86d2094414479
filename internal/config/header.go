package config

import (
	"net/http"
	"strings"
)

// Header is one extra request header.
type Header struct{ Name, Value string }

// parseHeader reads "Name: value".
func parseHeader(s string) (Header, error) {
	const hint = `write "Name: value", e.g. --header "X-Team: db"`
	name, val, ok := strings.Cut(s, ":")
	if !ok {
		// What follows the name may be a secret.
		if i := strings.IndexAny(s, " \t="); i >= 0 {
			s = s[:i] + " …"
		}
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
		return Header{}, bad("use --token-file FILE or ADIT_TOKEN (and --user NAME for a password); a proxy's password goes into its URL in HTTPS_PROXY", "header %s would show a secret to other users of this machine", name)
	case name == "Upgrade" || name == "Connection" || name == "Content-Length" || name == "Transfer-Encoding" || strings.HasPrefix(name, "Sec-Websocket-"):
		return Header{}, bad(hint, "header %s belongs to the WebSocket handshake and cannot be set", name)
	}
	return Header{name, val}, nil
}

const tokenChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// onlyTokenChars reports whether s is a token of RFC 9110, section 5.6.2.
func onlyTokenChars(s string) bool {
	for i := range len(s) {
		if strings.IndexByte(tokenChars, s[i]) < 0 {
			return false
		}
	}
	return true
}
