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

// tlsSource is where the certificates of a configuration come from.
type tlsSource struct {
	settings config.ServerTLS
	source   certs.Source // nil without TLS
	conf     *tls.Config  // nil without TLS
	created  bool         // the self-signed certificate is new
	stop     func()       // stops what watch has started; nil before
}

// openTLS opens the source of the server's certificates, or continues the old one,
// which may be nil, if it still fits. With dry it creates nothing on disk.
func openTLS(cfg *config.Server, old *tlsSource, getenv func(string) string, dry bool, faults *config.Faults) *tlsSource {
	t := cfg.TLS
	s := &tlsSource{settings: t}
	var pool *x509.CertPool
	if t.ClientCA != "" {
		var err error
		if pool, err = certs.LoadPool(t.ClientCA); err != nil {
			faults.Add(cfg.Origin("tls.client-ca"), err)
		}
	}
	var err error
	origin := ""
	switch {
	case old.fits(t):
		// It keeps its pending ACME orders, and a certificate that has expired since.
		s.source, s.stop = old.source, old.stop
	case t.Cert != "" && t.Key != "":
		origin = "tls.cert"
		s.source, err = certs.Files(t.Cert, t.Key)
		var fault *certs.Error
		if errors.As(err, &fault) && fault.File == t.Key {
			origin = "tls.key"
		}
	case t.SelfSigned != "" && exists(t.SelfSigned) && !isDir(t.SelfSigned):
		origin, err = "tls.self-signed", hint.Errorf("name a directory, which need not exist yet, e.g. /var/lib/adit/tls", "%s is not a directory", t.SelfSigned)
	case t.SelfSigned != "" && (!dry || exists(filepath.Join(t.SelfSigned, "cert.pem"))):
		origin = "tls.self-signed"
		s.source, s.created, err = certs.SelfSigned(t.SelfSigned, nil)
	case len(t.ACMEDomains) > 0 && !dry:
		origin = "tls.acme-domains"
		cache := t.ACMECache
		if cache == "" {
			cache = filepath.Join(stateDir(getenv), "acme")
		}
		s.source, err = certs.ACME(certs.ACMEOptions{
			Domains: t.ACMEDomains, CacheDir: cache, Email: t.ACMEEmail,
			DirectoryURL: t.ACMEDirectory, RootCAFile: t.ACMECA,
		})
	}
	if err != nil {
		faults.Add(cfg.Origin(origin), err)
	} else if s.source != nil {
		s.conf = certs.ServerConfig(s.source, pool)
	}
	return s
}

// fits reports whether the source has the certificates that t asks for. A nil one
// has none.
func (s *tlsSource) fits(t config.ServerTLS) bool {
	if s == nil {
		return false
	}
	was := s.settings
	switch source := s.source.(type) {
	case *certs.FileSource:
		return was.Cert == t.Cert && was.Key == t.Key && was.SelfSigned == t.SelfSigned && source.Current()
	case *certs.ACMESource:
		return reflect.DeepEqual(was, t)
	}
	return false
}

// watch renews or reloads the certificate in the background until s.stop, which
// waits for it to end, and calls renewed when there is a new one.
func (s *tlsSource) watch(ctx context.Context, log *slog.Logger, renewed func()) {
	if source, ok := s.source.(*certs.FileSource); ok {
		logWarnings(log, source)
	}
	if s.stop != nil {
		return // the old source, which is still watched
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.stop = func() { cancel(); <-done }
	switch source := s.source.(type) {
	case *certs.FileSource:
		go func() {
			defer close(done)
			source.Run(ctx, 0, func(reloaded bool, err error) {
				if err != nil {
					log.Error("certificate reload failed", hint.Attrs(err)...)
				} else if reloaded {
					log.Info("certificate reloaded", "expires", source.Expiry())
					logWarnings(log, source)
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

func logWarnings(log *slog.Logger, source *certs.FileSource) {
	for _, w := range source.Warnings() {
		log.Warn("certificate warning", "warning", w)
	}
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
