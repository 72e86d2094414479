package config

import (
	"slices"
	"strings"

	"adit/server"
)

// check reports faults between values.
func (s *Server) check(l *loader) {
	s.checkTLS(l)
	if len(s.Listen) == 0 && !l.faulty("listen") {
		l.report("listen", `write listen = [":443"]`, "there is no address to listen on")
	}
	s.checkUsers(l)
	s.checkTargets(l)
	s.checkRoutes(l)
	s.checkSite(l)
}

func (s *Server) checkSite(l *loader) {
	root, proxy := l.origins["site.root"], l.origins["site.proxy"]
	switch {
	case root == "" || strings.HasPrefix(root, "--") || strings.HasPrefix(root, "ADIT_"):
	case proxy != "":
		l.report("site.proxy", "leave out one of the two", "site.root is set too, at %s", root)
	case s.SiteProxy != "":
		l.faults.Add(root, bad(`write proxy = "`+s.SiteProxy+`"`, "%q is not a directory", s.SiteProxy))
	}
	if s.DemoPage != "" && s.DemoPage == s.TunnelPath {
		l.report("demo-page", "choose another path, e.g. /console", "%q is the tunnel's own path", s.DemoPage)
	}
}

func (s *Server) checkTLS(l *loader) {
	s.checkCertificateSource(l)
	t := &s.TLS
	if t.Cert != "" && t.Key == "" && !l.faulty("tls.key") {
		l.report("tls.cert", "add the key: --tls-key /etc/adit/privkey.pem, or key = \"…\" below [tls]", "has no private key")
	}
	if t.Key != "" && t.Cert == "" && !l.faulty("tls.cert") {
		l.report("tls.key", "add the certificate: --tls-cert /etc/adit/fullchain.pem, or cert = \"…\" below [tls]", "has no certificate")
	}
	if t.Off && t.ClientCA != "" {
		l.report("tls.client-ca", "leave out one of the two", "client certificates need TLS, which %s turns off", l.origin("tls.off"))
	}
	if t.Off && !l.isSet("listen") && !l.faulty("listen") {
		l.report("tls.off", "add an address: --listen 127.0.0.1:8080", "plain HTTP has no default address")
	}
	if len(t.ACMEDomains) > 0 || l.faulty("tls.acme-domains") {
		return
	}
	for _, key := range []string{"tls.acme-email", "tls.acme-directory", "tls.acme-ca", "tls.acme-cache"} {
		if l.isSet(key) {
			l.report(key, "add --acme-domain gw.example.com", "has no effect without a domain")
		}
	}
}

// checkCertificateSource wants exactly one.
func (s *Server) checkCertificateSource(l *loader) {
	const ways = "choose one: --tls-cert FILE with --tls-key FILE; --self-signed DIR (clients need the pin that it logs); --acme-domain NAME; or --no-tls behind a proxy that terminates TLS"
	t := &s.TLS
	var chosen []string
	for _, source := range []struct {
		key string
		set bool
	}{
		{"tls.cert", t.Cert != ""},
		{"tls.key", t.Key != "" && t.Cert == ""},
		{"tls.self-signed", t.SelfSigned != ""},
		{"tls.acme-domains", len(t.ACMEDomains) > 0},
		{"tls.off", t.Off},
	} {
		if source.set {
			chosen = append(chosen, source.key)
		}
	}
	switch {
	case len(chosen) == 0 && !l.faulty("tls."):
		l.faults.Add("tls", bad(ways, "no certificate is configured"))
	case len(chosen) > 1:
		l.report(chosen[1], ways, "there are two sources of the certificate: the other is %s", l.origin(chosen[0]))
	}
}

// checkUsers does not check names, hashes and rules: auth.NewUsers does.
func (s *Server) checkUsers(l *loader) {
	for i, u := range s.Users {
		id := itemID("user", i)
		if u.CertName != "" && s.TLS.ClientCA == "" && !l.faulty("tls.client-ca") {
			l.report(id+".cert-name", "add --client-ca /etc/adit/clients.pem, or client-ca = \"…\" below [tls]", "has no effect: client certificates are not requested")
		}
		named := slices.ContainsFunc(s.Routes, func(r server.Route) bool { return slices.Contains(r.Users, u.Name) })
		if len(u.Allow) == 0 && !named && !l.faulty(id+".allow") && !l.faulty(routeKey) {
			l.report(id, `add allow = ["127.0.0.1:22"], or "*:*" for everything, or name the user in the users of a [[route]]`, "user %q may reach nothing", u.Name)
		}
		s.checkNamedRules(l, id+".allow", u.Allow)
	}
	s.checkNamedRules(l, "allow-anonymous", s.AllowAnonymous)
	if len(s.Users) > 0 || len(s.AllowAnonymous) > 0 || len(s.Routes) > 0 || slices.ContainsFunc([]string{"users", "user", "allow-anonymous", routeKey}, l.faulty) {
		return
	}
	l.faults.Add("user", bad("make a token with `adit token alice`, put the printed token-hash below [[user]] in the configuration or a --users file; or open one target to everyone with --allow-anonymous 127.0.0.1:22; or a backend to WebSockets with --route /json=127.0.0.1:9000", "nobody may use the tunnel: there is no [[user]], no --allow-anonymous and no --route"))
}

// checkNamedRules reports rules that name a target that does not exist.
func (s *Server) checkNamedRules(l *loader, key string, rules []string) {
	names := s.targetNames()
	for i, r := range rules {
		if l.partial || !IsTargetName(r) || slices.Contains(names, r) {
			continue
		}
		add := `add [[target]] with name = "` + r + `" and address = "127.0.0.1:22", or write the rule as HOST:PORTS`
		l.report(itemID(key, i), didYouMean(r, names, add), "there is no target named %q", r)
	}
}

func (s *Server) targetNames() []string {
	var names []string
	for _, t := range s.Targets {
		names = append(names, t.Name)
	}
	return names
}

func (s *Server) userNames() []string {
	var names []string
	for _, u := range s.Users {
		names = append(names, u.Name)
	}
	return names
}

func (s *Server) checkTargets(l *loader) {
	seen := map[string]int{}
	for i, t := range s.Targets {
		id := itemID("target", i)
		if t.Name == "" && !l.faulty(id+".name") {
			l.report(id, `add name = "ssh"`, "has no name")
		}
		if t.Address.IsZero() && !l.faulty(id+".address") {
			l.report(id, `add address = "127.0.0.1:22"`, "target %q has no address", t.Name)
		}
		if first, dup := seen[t.Name]; dup && t.Name != "" {
			l.report(id+".name", "give each target its own name", "target %q is defined twice: also at %s", t.Name, l.origin(itemID("target", first)+".name"))
		} else {
			seen[t.Name] = i
		}
	}
}
