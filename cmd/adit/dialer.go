package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"adit/certs"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/mux"
	"adit/tunnel"
	"adit/tunnel/dial"
)

// newDialer makes what the client and the check connect with. Every file that
// the configuration names is read once, so that faults show now; secrets and
// client certificates are read again for each connection.
func newDialer(c *config.Client, log *slog.Logger) (*dial.Options, config.Faults) {
	var faults config.Faults
	d := &dial.Options{
		Host:      c.Host,
		ConnectTo: c.ConnectTo,
		Header:    http.Header{},
	}
	for _, h := range c.Headers {
		d.Header.Add(h.Name, h.Value)
	}
	d.TLS = clientTLS(c, log, &faults)
	d.ProxyTLS = proxyTLS(c)
	var err error
	if d.Proxy, err = chooseProxy(c); err != nil {
		origin := "proxy"
		if c.Proxy != "" {
			origin = c.Origin("proxy")
		}
		faults.Add(origin, err)
	}
	d.Authorization = authorization(c)
	if _, err := d.Authorization(); err != nil {
		faults.Add(c.Origin("token-file"), hint.File(err, "name a file that holds the token, as adit token prints it"))
	}
	return d, faults
}

// clientTLS builds the TLS configuration piece by piece, so that each fault is
// reported where it belongs.
func clientTLS(c *config.Client, log *slog.Logger, faults *config.Faults) *tls.Config {
	o := certs.ClientOptions{
		CAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key,
		ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.InsecureSkipVerify,
		Report: func(reloaded bool, err error) {
			if err != nil {
				log.Error("the new client certificate cannot be used, the old one stays", hint.Attrs(err)...)
			} else if reloaded {
				log.Info("client certificate loaded again", "file", c.TLS.Cert)
			}
		},
	}
	before := len(*faults)
	if o.CAFile != "" {
		if _, err := certs.LoadPool(o.CAFile); err != nil {
			faults.Add(c.Origin("tls.ca"), err)
		}
	}
	for i, text := range c.TLS.Pins {
		pin, err := certs.ParsePin(text)
		if err != nil {
			faults.Add(c.Origin(indexed("tls.pin", i)), err)
		}
		o.Pins = append(o.Pins, pin)
	}
	if len(*faults) > before {
		return nil
	}
	conf, err := certs.ClientConfig(o)
	if err != nil {
		faults.Add(c.Origin("tls.cert"), err)
	}
	return conf
}

// proxyTLS trusts the system's authorities and those of the configuration: an
// https proxy is often the company's own, and the server's CA then usually the
// same. A pin is the server's alone.
func proxyTLS(c *config.Client) *tls.Config {
	if c.TLS.CA == "" {
		return nil
	}
	data, err := os.ReadFile(c.TLS.CA)
	if err != nil {
		return nil // reported by clientTLS
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(data)
	return &tls.Config{RootCAs: pool}
}

// chooseProxy follows --proxy, or else the environment.
func chooseProxy(c *config.Client) (func(*url.URL) (*url.URL, error), error) {
	if c.Proxy != "" {
		return dial.FixedProxy(c.Proxy)
	}
	env := proxyVariable
	httpProxy := env("HTTP_PROXY")
	if os.Getenv("REQUEST_METHOD") != "" { // set by CGI, where HTTP_PROXY is a request header
		httpProxy = os.Getenv("http_proxy")
	}
	return dial.ProxyFromValues(env("HTTPS_PROXY"), httpProxy, env("ALL_PROXY"), env("NO_PROXY"))
}

// proxyVariable reads one of the variables about proxies, whose names may be in
// small letters, too.
func proxyVariable(name string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return os.Getenv(strings.ToLower(name))
}

// badNoProxy lists the entries of NO_PROXY that are meant as networks and are
// none.
func badNoProxy(noProxy string) []string {
	var bad []string
	for entry := range strings.SplitSeq(noProxy, ",") {
		entry = strings.TrimSpace(entry)
		if !strings.Contains(entry, "/") {
			continue
		}
		if _, err := netip.ParsePrefix(entry); err != nil {
			bad = append(bad, entry)
		}
	}
	return bad
}

// authorization returns what reads the credentials anew for each connection,
// so that a new token takes no restart.
func authorization(c *config.Client) func() (string, error) {
	read := func() (config.Secret, error) { return c.Token, nil }
	if c.TokenFile != "" {
		read = func() (config.Secret, error) { return config.ReadSecret(c.TokenFile) }
		if st, err := os.Stat(c.TokenFile); err == nil && !st.Mode().IsRegular() {
			read = sync.OnceValues(read) // a pipe: --token-file <(pass show gw)
		}
	}
	return func() (string, error) {
		secret, err := read()
		if err != nil {
			return "", err
		}
		switch {
		case secret == "":
			return "", nil
		case c.User == "" && !bearerToken.MatchString(string(secret)):
			return "", errToken
		case c.User != "":
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+string(secret))), nil
		}
		return "Bearer " + string(secret), nil
	}
}

// bearerToken is what a header can carry as one. RFC 6750 allows less, but what
// the server accepts is the server's to say.
var bearerToken = regexp.MustCompile(`^[!-~]+$`)

var errToken = hint.Errorf(
	"give the token alone, as adit token prints it between the quotes; for a password add --user NAME",
	"this is no token: it has spaces or characters that tokens have not")

// warnings are what a client says at every start.
func warnings(c *config.Client) []string {
	var list []string
	if c.TLS.InsecureSkipVerify {
		list = append(list, "the server is not verified (--insecure-skip-verify): anyone in between can read and change everything, and take the token; use --pin or --ca")
	}
	if c.TokenFile != "" && config.ReadableByOthers(c.TokenFile) {
		list = append(list, "every user of this machine can read the token file: chmod 600 "+c.TokenFile)
	}
	if c.Proxy == "" {
		for _, entry := range badNoProxy(proxyVariable("NO_PROXY")) {
			list = append(list, fmt.Sprintf("NO_PROXY names %q, which is no network: it has no effect", entry))
		}
	}
	for _, s := range c.Servers {
		u, err := url.Parse(s)
		if err == nil && u.Scheme == "ws" && !tunnel.Local(u.Hostname()) {
			list = append(list, "nothing is encrypted on the way to "+s+": use wss://")
		}
	}
	return list
}

// muxTarget is the wire form of a forward's target.
func muxTarget(a config.Address) mux.Target {
	kind := mux.TCP
	switch a.Network {
	case "unix":
		kind = mux.Unix
	case "name":
		kind = mux.Named
	}
	return mux.Target{Kind: kind, Address: a.Address}
}
