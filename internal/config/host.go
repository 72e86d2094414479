package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// splitHostPort cuts HOST:PORT. Brackets around HOST stay.
func splitHostPort(s, hint string) (host, port string, err error) {
	parts, err := splitFields(s)
	if err != nil {
		return "", "", err
	}
	switch {
	case s == "":
		return "", "", bad(hint, "the address is empty")
	case len(parts) == 1:
		return "", "", bad(hint, "%q has no port", s)
	case len(parts) > 2 && looksLikeIPv6(s):
		return "", "", bad(hint, "%q: an IPv6 address needs brackets", s)
	case len(parts) > 2:
		return "", "", bad(hint, "%q has too many colons", s)
	}
	return parts[0], parts[1], nil
}

// looksLikeIPv6 reports whether s is an IP address as it stands, or an IPv6
// address and a port without the brackets that they need.
func looksLikeIPv6(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return false
	}
	a, err := netip.ParseAddr(s[:i])
	return err == nil && a.Is6()
}

// parsePort returns the port in canonical decimal.
func parsePort(s string) (string, error) {
	const hint = "write a decimal port between 1 and 65535, e.g. 8443"
	if s == "" {
		return "", bad(hint, "the port is empty")
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", bad(hint, "port %q is not a number", s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return "", bad(hint, "port %q is above 65535", s)
	}
	return strconv.FormatUint(n, 10), nil
}

// isPort reports whether s is meant as a port: digits only.
func isPort(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseHost checks a host name or an IP literal (IPv6 in brackets) and returns
// it without brackets. zone says whether an IPv6 zone is accepted: a zone names
// an interface of this machine, and so only fits an address to listen on.
func parseHost(s string, zone bool) (string, error) {
	const hint = "write a host name (db.lan), an IPv4 address (10.0.0.5), or an IPv6 address in brackets ([2001:db8::5])"
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return "", bad(hint, "%q lacks its closing bracket", s)
		}
		a, err := netip.ParseAddr(inner)
		if err != nil || !a.Is6() {
			return "", bad(hint, "%q is not an IPv6 address", s)
		}
		if a.Zone() != "" && !zone {
			return "", bad(hint, "%q: a zone has no meaning on another machine", s)
		}
		if strings.ContainsAny(a.Zone(), "[]:") {
			return "", bad(hint, "%q: bad zone", s)
		}
		return a.String(), nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), nil // IPv4: callers have cut s at colons
	}
	if why := hostNameFault(s); why != "" {
		return "", bad(hint, "host %q %s", s, why)
	}
	return s, nil
}

// hostNameFault says why s is no DNS name, or returns "".
func hostNameFault(s string) string {
	if s == "" {
		return "is empty"
	}
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 {
		return "is longer than 253 characters"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "has an empty or overlong label"
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return "has a label that begins or ends with a hyphen"
		}
		for i := range len(label) {
			c := label[i]
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			case c >= 0x80:
				if ascii, err := idna.Lookup.ToASCII(s); err == nil {
					return fmt.Sprintf("is not ASCII: write %q", ascii)
				}
				return "is not ASCII, and no internationalized name either"
			default:
				return "contains " + strconv.QuoteRune(rune(c))
			}
		}
	}
	if isPort(labels[len(labels)-1]) {
		return "ends in a number but is not an IPv4 address"
	}
	return ""
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
