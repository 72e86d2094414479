package dial

import (
	"net/url"
	"strings"
	"unicode"
)

// redactURL returns a URL for errors: without user information, query and fragment, and with the host as it is
// sent, in ASCII.
func redactURL(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.Scheme + "://")
	if u.User != nil {
		b.WriteString("***@")
	}
	host := u.Host
	if ascii, err := asciiHost(u.Hostname()); err == nil && ascii != u.Hostname() {
		host = hostPort(ascii, u.Port())
	}
	b.WriteString(host + u.EscapedPath())
	return printable(b.String())
}

// redactRaw returns a text that may not be a URL for errors: without anything that could be user information or
// a query or fragment. If it has both an @ and a ? or #, only the scheme remains.
func redactRaw(raw string) string {
	at := strings.LastIndexByte(raw, '@')
	query := strings.IndexAny(raw, "?#")
	switch {
	case at < 0 && query < 0:
		return printable(raw)
	case at < 0:
		return printable(raw[:query])
	}
	scheme := ""
	if i := strings.Index(raw[:at], "://"); i >= 0 {
		scheme = raw[:i+3]
	}
	if query >= 0 {
		return printable(scheme + "***")
	}
	return printable(scheme + "***" + raw[at:])
}

// redactPort replaces what follows the last colon.
func redactPort(s string) string {
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasPrefix(s[i:], "://") {
		return s[:i+1] + "…"
	}
	return s
}

// maxPeerText is the maximal number of characters from a peer in an error.
const maxPeerText = 160

// printable makes a text from a peer safe for an error or a log line: one line without control characters, of
// at most maxPeerText characters.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == maxPeerText {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			r = '?'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
