package serverd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"adit/certs"
	"adit/internal/config"
	"adit/internal/hint"
)

// readCertificate opens the source of the server's certificates. It keeps the
// source of the old plan if it still fits.
func (p *plan) readCertificate(old *plan, getenv func(string) string, dry bool, faults *config.Faults) {
	t := p.cfg.TLS
	var pool *x509.CertPool
	if t.ClientCA != "" {
		var err error
		if pool, err = certs.LoadPool(t.ClientCA); err != nil {
			faults.Add(p.cfg.Origin("tls.client-ca"), err)
		}
	}
	var err error
	origin := ""
	switch {
	case old.serves(t):
		// It keeps its pending ACME orders, and a certificate that has expired since.
		p.source, p.stop = old.source, old.stop
	case t.Cert != "" && t.Key != "":
		origin = "tls.cert"
		p.source, err = certs.Files(t.Cert, t.Key)
		var fault *certs.Error
		if errors.As(err, &fault) && fault.File == t.Key {
			origin = "tls.key"
		}
	case t.SelfSigned != "" && exists(t.SelfSigned) && !isDir(t.SelfSigned):
		origin, err = "tls.self-signed", hint.Errorf("name a directory, which need not exist yet, e.g. /var/lib/adit/tls", "%s is not a directory", t.SelfSigned)
	case t.SelfSigned != "" && (!dry || exists(filepath.Join(t.SelfSigned, "cert.pem"))):
		origin = "tls.self-signed"
		p.source, p.created, err = certs.SelfSigned(t.SelfSigned, nil)
	case len(t.ACMEDomains) > 0 && !dry:
		origin = "tls.acme-domains"
		cache := t.ACMECache
		if cache == "" {
			cache = filepath.Join(stateDir(getenv), "acme")
		}
		p.source, err = certs.ACME(certs.ACMEOptions{
			Domains: t.ACMEDomains, CacheDir: cache, Email: t.ACMEEmail,
			DirectoryURL: t.ACMEDirectory, RootCAFile: t.ACMECA,
		})
	}
	if err != nil {
		faults.Add(p.cfg.Origin(origin), err)
		return
	}
	if p.source != nil {
		p.tls = certs.ServerConfig(p.source, pool)
	}
}

// serves reports whether the plan's source has the certificates that t asks for. A
// nil plan has none.
func (p *plan) serves(t config.ServerTLS) bool {
	if p == nil {
		return false
	}
	was := p.cfg.TLS
	switch source := p.source.(type) {
	case *certs.FileSource:
		return was.Cert == t.Cert && was.Key == t.Key && was.SelfSigned == t.SelfSigned && source.Current()
	case *certs.ACMESource:
		return reflect.DeepEqual(was, t)
	}
	return false
}

// watch renews or reloads the certificate in the background until p.stop, which
// waits for it to end, and calls renewed when there is a new one.
func (p *plan) watch(ctx context.Context, log *slog.Logger, renewed func()) {
	if source, ok := p.source.(*certs.FileSource); ok {
		for _, w := range source.Warnings() {
			log.Warn(w)
		}
	}
	if p.stop != nil {
		return // the source of the old plan, which is still watched
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	p.stop = func() { cancel(); <-done }
	switch source := p.source.(type) {
	case *certs.FileSource:
		go func() {
			defer close(done)
			source.Run(ctx, 0, func(reloaded bool, err error) {
				if err != nil {
					log.Error("certificate reload failed", hint.Attrs(err)...)
				} else if reloaded {
					log.Info("certificate reloaded", "expires", source.Expiry())
					renewed()
				}
			})
		}()
	case *certs.ACMESource:
		go func() {
			defer close(done)
			source.Run(ctx, func(domain string, err error) {
				if err != nil {
					log.Error("certificate request failed", append([]any{"domain", domain}, hint.Attrs(err)...)...)
				} else {
					log.Info("certificate obtained", "domain", domain)
					renewed()
				}
			})
		}()
	default:
		close(done)
	}
}

// listenerTLS returns the TLS configuration of the listeners, which uses the plan in
// force at each handshake. It is nil without TLS.
func (d *Daemon) listenerTLS() *tls.Config {
	if d.plan.tls == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return d.tls.Load(), nil
	}}
}

// stateDir returns the directory for what a server must not lose: systemd's choice,
// or the usual place.
func stateDir(getenv func(string) string) string {
	if dir, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	const system = "/var/lib/adit" // exists in the container, where the user is not root
	if os.Geteuid() == 0 || exists(system) {
		return system
	}
	if dir := getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "adit")
	}
	return filepath.Join(getenv("HOME"), ".local", "state", "adit")
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
