package auth

import "strings"

// Host names are compared as DNS compares them: without the trailing dot of a
// fully qualified name, and case-insensitively for ASCII only. Unicode case
// folding would equate other letters with ASCII ones (the Kelvin sign with k).

// trimDot removes the trailing dot of a fully qualified name.
func trimDot(name string) string { return strings.TrimSuffix(name, ".") }

// validName reports whether a name without its trailing dot is a host name:
// labels of 1 to 63 letters, digits, hyphens and underscores, at most 253 bytes
// in total, and not in a form that a resolver might take for an address.
func validName(name string) bool {
	if len(name) == 0 || len(name) > 253 || looksLikeAddress(name) {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case c == '-':
			if label == 0 {
				return false
			}
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0
}

// looksLikeAddress reports whether host is an IP address or a form that some
// resolvers take for one (127.1, 0x7f.1, 2130706433): it contains a colon, or
// its last label is a number. A trailing dot makes no difference.
func looksLikeAddress(host string) bool {
	host = trimDot(host)
	if strings.IndexByte(host, ':') >= 0 {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if isDigits(last) {
		return true
	}
	if len(last) < 2 || last[0] != '0' || last[1]|0x20 != 'x' {
		return false
	}
	for i := 2; i < len(last); i++ {
		c := last[i] | 0x20
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// sameName reports whether asked equals the lower-case name, ignoring case.
func sameName(asked, lower string) bool {
	if len(asked) != len(lower) {
		return false
	}
	for i := range len(asked) {
		c := asked[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// underSuffix reports whether asked lies below the lower-case suffix ".lan".
func underSuffix(asked, suffix string) bool {
	return len(asked) > len(suffix) && sameName(asked[len(asked)-len(suffix):], suffix)
}
