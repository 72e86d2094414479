package dial

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/http/httpproxy"
)

// FixedProxy returns a function for Options.Proxy that always returns the proxy rawURL, also for loopback
// addresses, or none if rawURL is "none". rawURL is an http, https, socks5 or socks5h URL with optional
// USER:PASSWORD, or a bare HOST:PORT, which means http. The default ports are 80, 443 and 1080. With both
// socks schemes the proxy resolves the server's name. An error is an *Error with a hint and without the
// password.
func FixedProxy(rawURL string) (func(*url.URL) (*url.URL, error), error) {
	if rawURL == "none" {
		return func(*url.URL) (*url.URL, error) { return nil, nil }, nil
	}
	proxy, err := ParseProxyURL("--proxy", rawURL)
	if err != nil {
		return nil, err
	}
	return func(*url.URL) (*url.URL, error) { return proxy, nil }, nil
}

// ProxyFromValues returns a function for Options.Proxy that follows the values of the environment variables
// HTTPS_PROXY (for wss), HTTP_PROXY (for ws), ALL_PROXY (where the former is empty) and NO_PROXY. There is no
// proxy for hosts that NO_PROXY lists (see SplitNoProxy), nor for localhost and loopback addresses. Proxies are written as for FixedProxy. All
// values may be empty. An error is an *Error that names the variable, without the password.
func ProxyFromValues(httpsProxy, httpProxy, allProxy, noProxy string) (func(*url.URL) (*url.URL, error), error) {
	byScheme := [...]struct {
		name, value string
		parsed      *url.URL
	}{{name: "HTTPS_PROXY", value: httpsProxy}, {name: "HTTP_PROXY", value: httpProxy}, {name: "ALL_PROXY", value: allProxy}}
	for i := range byScheme {
		v := &byScheme[i]
		if v.value = strings.TrimSpace(v.value); v.value == "" {
			continue
		}
		var err error
		if v.parsed, err = ParseProxyURL(v.name, v.value); err != nil {
			return nil, err
		}
	}
	text := func(own, fallback *url.URL) string {
		if own != nil {
			return own.String()
		}
		if fallback != nil {
			return fallback.String()
		}
		return ""
	}
	choose := (&httpproxy.Config{
		HTTPSProxy: text(byScheme[0].parsed, byScheme[2].parsed),
		HTTPProxy:  text(byScheme[1].parsed, byScheme[2].parsed),
		NoProxy:    strings.Join(SplitNoProxy(noProxy), ","),
	}).ProxyFunc()
	return func(u *url.URL) (*url.URL, error) {
		// httpproxy knows only http and https, and compares names byte by byte: use lower case, and
		// remove the trailing dot of a full name.
		as := &url.URL{Scheme: u.Scheme}
		switch u.Scheme {
		case "wss":
			as.Scheme = "https"
		case "ws":
			as.Scheme = "http"
		}
		as.Host = hostPort(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port())
		return choose(as)
	}, nil
}

// SplitNoProxy returns the entries of a NO_PROXY variable: names with their subdomains, .suffixes, addresses,
// CIDRs, each with an optional port, or *. Commas and blanks separate them. Brackets around an IPv6 address
// without a port, and the trailing dot of a full name, are removed: httpproxy would not match such an entry.
func SplitNoProxy(list string) []string {
	entries := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	for i, e := range entries {
		host, port, err := net.SplitHostPort(e)
		switch {
		case err != nil && strings.HasPrefix(e, "["):
			entries[i] = strings.NewReplacer("[", "", "]", "").Replace(e)
		case err != nil:
			entries[i] = strings.TrimSuffix(e, ".")
		default:
			entries[i] = net.JoinHostPort(strings.TrimSuffix(host, "."), port)
		}
	}
	return entries
}

// ParseProxyURL reads a proxy's address as FixedProxy describes it, except "none". An error is an *Error with a
// hint and without the password; source, its Addr, names the flag or variable.
func ParseProxyURL(source, raw string) (*url.URL, error) {
	fail := func(hint, format string, args ...any) (*url.URL, error) {
		return nil, &Error{Step: StepConfiguration, Addr: source, Err: fmt.Errorf(format, args...), hint: hint, Permanent: true}
	}
	const example = "write http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before the host if the proxy requires them; or none for a direct connection"
	if strings.TrimSpace(raw) == "" {
		return fail(example, "the proxy address is empty")
	}
	full := raw
	if !strings.Contains(raw, "://") {
		full = "http://" + raw
	}
	u, err := url.Parse(full)
	if err != nil {
		// The parser's error quotes its input, with the password; and if @HOST is missing, the password
		// is where the port should be.
		return fail("percent-encode special characters in the user name and password (@ is %40, : is %3A, / is %2F, # is %23, % is %25); "+example,
			"%q is not a URL", redactPort(redactRaw(raw)))
	}
	if u.User == nil && strings.Contains(raw, "@") || strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@") {
		// The password contains / ? or #, which ended the host. If it contains an @ before that, the host that
		// was read is a part of it.
		return fail("percent-encode special characters in the user name and password (/ is %2F, ? is %3F, # is %23)",
			"%q has an unencoded special character before its @", redactRaw(raw))
	}
	u.Scheme = strings.ToLower(u.Scheme)
	err = checkProxyURL(u)
	if err == nil {
		_, err = proxyAddr(u)
	}
	if err != nil {
		return fail(example, "%w", err)
	}
	u.Path = ""
	return u, nil
}

// proxyPorts are all schemes of proxies, with their default ports.
var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// checkProxyURL returns an error if Dial cannot use a proxy. Errors do not contain the password.
func checkProxyURL(u *url.URL) error {
	shown := redactURL(u)
	if _, known := proxyPorts[u.Scheme]; !known {
		return fmt.Errorf("proxy %q: the scheme is not one of %s", shown, strings.Join(slices.Sorted(maps.Keys(proxyPorts)), ", "))
	}
	if u.Hostname() == "" {
		return fmt.Errorf("proxy %q names no host", shown)
	}
	if _, p, found := strings.Cut(u.Host[strings.LastIndexByte(u.Host, ']')+1:], ":"); found {
		if err := checkPort(p); err != nil {
			return fmt.Errorf("proxy %q: %w", shown, err)
		}
	}
	if u.Opaque != "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("proxy %q has a path, query or fragment, which a proxy does not take", shown)
	}
	if u.User == nil {
		return nil
	}
	name := u.User.Username()
	password, _ := u.User.Password()
	switch u.Scheme {
	case "http", "https":
		if strings.Contains(name, ":") {
			return fmt.Errorf("proxy %q: the user name contains a colon, which Basic authentication cannot carry", shown)
		}
	default:
		// RFC 1929 has one byte for each length, and no empty user name.
		if name == "" || len(name) > 255 || len(password) > 255 {
			return fmt.Errorf("proxy %q: SOCKS5 takes a user name of 1 to 255 bytes and a password of at most 255", shown)
		}
	}
	return nil
}

// proxyAddr returns the HOST:PORT of a checked proxy URL.
func proxyAddr(u *url.URL) (string, error) {
	port := u.Port()
	if port == "" {
		port = proxyPorts[u.Scheme]
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}
