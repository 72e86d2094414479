package auth

import (
	"fmt"
	"net/netip"
	"path"
	"strings"

	"golang.org/x/net/idna"
)

// maxRule bounds the text of a rule, in bytes.
const maxRule = 2048

type ruleKind uint8

const (
	anyHost      ruleKind = iota + 1 // "*"
	prefixHost                       // an address or a CIDR
	loopbackHost                     // bare ports
	nameHost                         // one name
	suffixHost                       // "*.lan"
	unixPath                         // one socket
	unixTree                         // every socket below a directory
	targetName                       // a named target of the server
)

// Rule is one line of a policy; see ParsePolicy for the forms. The zero value
// matches nothing.
type Rule struct {
	kind   ruleKind
	prefix netip.Prefix // prefixHost
	text   string       // lower-case name, ".lan", path, "/run/" of a tree, or target
	ports  portSet      // of the kinds with a host
}

// ParseRule parses one rule. The error is a *RuleError.
func ParseRule(s string) (Rule, error) {
	r, reason, hint := parseRule(strings.TrimSpace(s))
	if reason != "" {
		return Rule{}, &RuleError{Rule: s, Reason: reason, hint: hint}
	}
	return r, nil
}

// String returns the rule in its canonical form; ParseRule parses it to the
// same rule.
func (r Rule) String() string {
	ports := r.ports.String()
	if r.ports.all() {
		ports = "*"
	}
	switch r.kind {
	case anyHost:
		return "*:" + ports
	case prefixHost:
		host := r.prefix.String()
		if r.prefix.IsSingleIP() {
			host = r.prefix.Addr().String()
		}
		if r.prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
		return host + ":" + ports
	case loopbackHost:
		return r.ports.String() // never "*", which could mean ports or hosts
	case nameHost:
		return r.text + ":" + ports
	case suffixHost:
		return "*" + r.text + ":" + ports
	case unixPath:
		return "unix:" + r.text
	case unixTree:
		return "unix:" + r.text + "*"
	case targetName:
		return r.text
	}
	return ""
}

const ruleForms = `write HOST:PORTS ("10.0.0.0/8:443", "db.lan:5432", "[::1]:22"), PORTS ("8000-8100", on loopback), "unix:/path", or the name of a target`

// parseRule parses a rule without surrounding spaces. reason says why it
// failed; it is "" on success.
func parseRule(s string) (r Rule, reason, hint string) {
	switch {
	case s == "":
		return r, "it is empty", ruleForms
	case len(s) > maxRule:
		return r, fmt.Sprintf("it is longer than %d bytes", maxRule), "split it into several rules"
	case s == "*":
		return r, `a bare "*" could mean ports or hosts`, `write "*:*" for every host and port, or "1-65535" for every port on loopback`
	case strings.HasPrefix(s, "unix:"):
		return parseUnixRule(s[len("unix:"):])
	case strings.Trim(s, "0123456789,- ") == "":
		ports, reason := parsePorts(s)
		return Rule{kind: loopbackHost, ports: ports}, reason, `ports are "22", "80,443" or "8000-8100"`
	case !strings.Contains(s, ":"):
		return parseTargetRule(s)
	}
	host, tail, bracketed, reason := cutHost(s)
	if reason != "" {
		return r, reason, `write IPv6 in brackets: "[::1]:22", "[fd00::/8]:443"`
	}
	ports, reason := parsePorts(tail)
	if reason != "" {
		return r, reason, `ports are "*", "22", "80,443" or "8000-8100"`
	}
	r, reason, hint = parseHost(host, bracketed)
	r.ports = ports
	return r, reason, hint
}

// cutHost splits HOST:PORTS at the last colon and removes the brackets.
func cutHost(s string) (host, ports string, bracketed bool, reason string) {
	if s[0] == '[' {
		host, ports, ok := strings.Cut(s[1:], "]:")
		if !ok {
			return "", "", true, `"]:" and ports must end the address`
		}
		return host, ports, true, ""
	}
	i := strings.LastIndexByte(s, ':')
	if strings.Contains(s[:i], ":") {
		return "", "", false, "an IPv6 address needs brackets"
	}
	return s[:i], s[i+1:], false, ""
}

func parseHost(host string, bracketed bool) (r Rule, reason, hint string) {
	switch {
	case host == "":
		return r, "the host is missing", `write "*:PORTS" for every host, or bare PORTS for loopback`
	case strings.Contains(host, "%"):
		return r, "it has an IPv6 zone", "leave the zone out: addresses with a zone are always refused"
	case bracketed, strings.Contains(host, "/"), looksLikeAddress(host):
		return parseAddressRule(host, bracketed)
	case host == "*":
		return Rule{kind: anyHost}, "", ""
	}
	name, isSuffix := strings.CutPrefix(host, "*.")
	name = strings.ToLower(trimDot(name))
	if ascii, err := idna.Lookup.ToASCII(name); err == nil && strings.ContainsFunc(name, func(c rune) bool { return c >= 0x80 }) {
		if isSuffix {
			ascii = "*." + ascii
		}
		return r, quote(host) + " is not ASCII", "write " + quote(ascii)
	}
	if !validName(name) {
		return r, quote(host) + " is neither an address nor a host name",
			`"*" stands alone or as "*.lan" for the names below lan`
	}
	if isSuffix {
		return Rule{kind: suffixHost, text: "." + name}, "", ""
	}
	return Rule{kind: nameHost, text: name}, "", ""
}

func parseAddressRule(host string, bracketed bool) (r Rule, reason, hint string) {
	var prefix netip.Prefix
	if addrText, _, isCIDR := strings.Cut(host, "/"); isCIDR {
		p, err := netip.ParsePrefix(host)
		if err != nil {
			return r, quote(host) + " is not a CIDR", `write "10.20.0.0/16:443" or "[fd00::/8]:443"`
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return r, quote(addrText) + " is an IPv4-mapped address with a prefix shorter than 96", "write the IPv4 range itself"
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p != p.Masked() {
			return r, quote(host) + " has bits set after its prefix",
				fmt.Sprintf("write %s for the range, or the address without /%d", p.Masked(), p.Bits())
		}
		prefix = p
	} else {
		a, err := netip.ParseAddr(host)
		if err != nil {
			return r, quote(host) + " is not an IP address", `write it out: "127.0.0.1:22", "[::1]:22"; a host name cannot end in a number`
		}
		a = a.Unmap()
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	if bracketed && !strings.Contains(host, ":") {
		return r, "only IPv6 stands in brackets", "write it without brackets"
	}
	return Rule{kind: prefixHost, prefix: prefix}, "", ""
}

func parseUnixRule(p string) (r Rule, reason, hint string) {
	dir, isTree := strings.CutSuffix(p, "/*")
	if isTree {
		p = dir
		if p == "" {
			p = "/"
		}
	}
	switch {
	case !strings.HasPrefix(p, "/"):
		return r, "the path of a socket must be absolute", `write "unix:/run/app.sock", or "unix:/run/app/*" for all below a directory`
	case strings.Contains(p, "*"), strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return r, `the path has a "*" or a control character`, `only a trailing "/*" is a pattern`
	case path.Clean(p) != p:
		return r, "the path is not in its shortest form", fmt.Sprintf("write %q", path.Clean(p))
	case isTree:
		return Rule{kind: unixTree, text: strings.TrimSuffix(p, "/") + "/"}, "", ""
	case p == "/":
		return r, "the path names no socket", `write "unix:/*" for every socket`
	}
	return Rule{kind: unixPath, text: p}, "", ""
}

func parseTargetRule(s string) (r Rule, reason, hint string) {
	if !isLetter(s[0]) || len(s) > maxName {
		return r, "it has no port, and is not the name of a target", ruleForms
	}
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' {
			return r, "it has no port, and is not the name of a target",
				fmt.Sprintf("for a host add ports, such as %s:443; names of targets are letters, digits, - and _", quote(s))
		}
	}
	return Rule{kind: targetName, text: s}, "", ""
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
