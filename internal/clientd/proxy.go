package clientd

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"net/url"
	"strings"

	"adit/certs"
	"adit/internal/config"
	"adit/tunnel/dial"
)

// proxyTLS returns the TLS configuration towards an https proxy. It trusts the
// system's authorities and the configured CA, which a company often uses for its
// proxy as well as for the server. A pin is for the server alone.
func proxyTLS(c *config.Client) *tls.Config {
	if c.TLS.CA == "" {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if certs.AddToPool(pool, c.TLS.CA) != nil {
		return nil // reported by clientTLS
	}
	return &tls.Config{RootCAs: pool}
}

// chooseProxy returns the proxy of the configuration, or else of the environment.
func chooseProxy(c *config.Client, getenv func(string) string) (func(*url.URL) (*url.URL, error), error) {
	if c.Proxy != "" {
		return dial.FixedProxy(c.Proxy)
	}
	env := func(name string) string { return proxyVariable(getenv, name) }
	httpProxy := env("HTTP_PROXY")
	if getenv("REQUEST_METHOD") != "" { // in a CGI process HTTP_PROXY is a request header
		httpProxy = getenv("http_proxy")
	}
	return dial.ProxyFromValues(env("HTTPS_PROXY"), httpProxy, env("ALL_PROXY"), env("NO_PROXY"))
}

// proxyVariable returns the value of one of the variables about proxies, whose
// names may be in lower case.
func proxyVariable(getenv func(string) string, name string) string {
	return cmp.Or(getenv(name), getenv(strings.ToLower(name)))
}

// badNoProxy returns the entries of NO_PROXY that look like networks but are not.
func badNoProxy(noProxy string) []string {
	var bad []string
	for _, entry := range dial.SplitNoProxy(noProxy) {
		if !strings.Contains(entry, "/") {
			continue
		}
		if _, err := netip.ParsePrefix(entry); err != nil {
			bad = append(bad, entry)
		}
	}
	return bad
}
