package clientd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"adit/certs"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/tunnel/dial"
)

// DialOptions returns how to dial the servers of a configuration. It reads every
// file that the configuration names, to find all faults at once; tokens and client
// certificates are read again for each connection. getenv is os.Getenv.
func DialOptions(c *config.Client, getenv func(string) string, log *slog.Logger) (*dial.Options, config.Faults) {
	var faults config.Faults
	d := &dial.Options{
		Host:         c.Host,
		ConnectTo:    c.ConnectTo,
		Header:       http.Header{},
		NoSmallHello: c.TLS.NoSmallHello,
		Trace: func(e dial.Event) {
			switch {
			case e.Retry && e.SmallHello:
				log.Warn("trying a small ClientHello without post-quantum key shares", "error", e.Err)
			case e.Retry:
				log.Info("trying another address", "error", e.Err)
			}
		},
	}
	for _, h := range c.Headers {
		d.Header.Add(h.Name, h.Value)
	}
	d.TLS = clientTLS(c, log, &faults)
	d.ProxyTLS = proxyTLS(c)
	var err error
	if d.Proxy, err = chooseProxy(c, getenv); err != nil {
		// The setting was checked when it was read; the error is about a variable, which it names.
		origin := "proxy"
		if e, ok := errors.AsType[*dial.Error](err); ok {
			origin, err = e.Addr, hint.With(e.Err, e.Hint())
		}
		faults.Add(origin, err)
	}
	d.Authorization = authorization(c)
	if _, err := d.Authorization(); err != nil {
		faults.Add(c.Origin("token-file"), hint.File(err, "name a file that holds the token, as adit token prints it"))
	}
	return d, faults
}

// clientTLS returns the TLS configuration towards the server. Each fault names the
// setting that it is about.
func clientTLS(c *config.Client, log *slog.Logger, faults *config.Faults) *tls.Config {
	o := certs.ClientOptions{
		CAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key,
		ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.InsecureSkipVerify,
		Report: func(reloaded bool, err error) {
			if err != nil {
				log.Error("client certificate reload failed", hint.Attrs(err)...)
			} else if reloaded {
				log.Info("client certificate reloaded", "file", c.TLS.Cert)
			}
		},
	}
	if o.CertFile == "" || o.KeyFile == "" { // config reports that one is missing
		o.CertFile, o.KeyFile = "", ""
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
			faults.Add(c.Origin(fmt.Sprintf("tls.pin[%d]", i)), err)
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
