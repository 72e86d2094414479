package config

import (
	"slices"
	"strings"

	"adit/server"
)

// check finds what is wrong between values.
func (s *Server) check(l *loader) {
	s.checkTLS(l)
	if len(s.Listen) == 0 && !l.faulty("listen") {
		l.faults.Add(l.origin("listen"), bad("write listen = [\":443\"]", "there is no address to listen on"))
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
		l.faults.Add(l.origin("site.proxy"), bad("leave out one of the two", "the site has a root, too, at %s", root))
	case s.SiteProxy != "":
		l.faults.Add(root, bad(`write proxy = "`+s.SiteProxy+`"`, "%q is not a directory", s.SiteProxy))
	}
	if s.DemoPage != "" && s.DemoPage == s.TunnelPath {
		l.faults.Add(l.origin("demo-page"), bad("write /console, say", "%q is the tunnel's own path", s.DemoPage))
	}
}

func (s *Server) checkTLS(l *loader) {
	const ways = "choose one: --tls-cert FILE with --tls-key FILE; --self-signed DIR (clients then use the pin it prints); --acme-domain NAME; or --no-tls behind a proxy that does TLS"
	t := &s.TLS
	var chosen []string
	note := func(set bool, key string) {
		if set {
			chosen = append(chosen, key)
		}
	}
	note(t.Cert != "" || t.Key != "", firstSet(t.Cert, "tls.cert", "tls.key"))
	note(t.SelfSigned != "", "tls.self-signed")
	note(len(t.ACMEDomains) > 0, "tls.acme-domains")
	note(t.Off, "tls.off")
	switch {
	case len(chosen) == 0 && !l.faulty("tls."):
		l.faults.Add("tls", bad(ways, "no certificate is configured"))
	case len(chosen) > 1:
		l.faults.Add(l.origin(chosen[1]), bad(ways, "there are two sources of the certificate: the other is %s", l.origin(chosen[0])))
	}
	if t.Cert != "" && t.Key == "" && !l.faulty("tls.key") {
		l.faults.Add(l.origin("tls.cert"), bad("add the key: --tls-key /etc/adit/privkey.pem, or key = \"…\" below [tls]", "has no private key beside it"))
	}
	if t.Key != "" && t.Cert == "" && !l.faulty("tls.cert") {
		l.faults.Add(l.origin("tls.key"), bad("add the certificate: --tls-cert /etc/adit/fullchain.pem, or cert = \"…\" below [tls]", "has no certificate beside it"))
	}
	if t.Off && t.ClientCA != "" {
		l.faults.Add(l.origin("tls.client-ca"), bad("leave out one of the two", "client certificates need TLS, which %s turns off", l.origin("tls.off")))
	}
	if t.Off && !l.isSet("listen") && !l.faulty("listen") {
		l.faults.Add(l.origin("tls.off"), bad("say where: --listen 127.0.0.1:8080", "plain HTTP has no default address"))
	}
	if len(t.ACMEDomains) == 0 && !l.faulty("tls.acme-domains") {
		for _, key := range []string{"tls.acme-email", "tls.acme-directory", "tls.acme-ca", "tls.acme-cache"} {
			if l.isSet(key) {
				l.faults.Add(l.origin(key), bad("add --acme-domain gw.example.com", "has no effect without a domain"))
			}
		}
	}
}

func firstSet(v, a, b string) string {
	if v != "" {
		return a
	}
	return b
}

// checkUsers leaves names, hashes and rules to auth, which the caller asks.
func (s *Server) checkUsers(l *loader) {
	for i, u := range s.Users {
		id := itemID("user", i)
		if u.CertName != "" && s.TLS.ClientCA == "" && !l.faulty("tls.client-ca") {
			l.faults.Add(l.origin(id+".cert-name"), bad("add --client-ca /etc/adit/clients.pem, or client-ca = \"…\" below [tls]", "no client certificate is ever asked for"))
		}
		named := slices.ContainsFunc(s.Routes, func(r server.Route) bool { return slices.Contains(r.Users, u.Name) })
		if len(u.Allow) == 0 && !named && !l.faulty(id+".allow") && !l.faulty(routeKey) {
			l.faults.Add(l.origin(id), bad(`add allow = ["127.0.0.1:22"], or "*:*" for everything, or name the user in the users of a [[route]]`, "user %q may reach nothing", u.Name))
		}
		s.checkNamedRules(l, id+".allow", u.Allow)
	}
	s.checkNamedRules(l, "allow-anonymous", s.AllowAnonymous)
	if len(s.Users) == 0 && len(s.AllowAnonymous) == 0 && len(s.Routes) == 0 && !l.faulty("users") && !l.faulty("user") && !l.faulty("allow-anonymous") && !l.faulty(routeKey) {
		l.faults.Add("user", bad("make a token with `adit token alice`, put the printed token-hash below [[user]] in the configuration or a --users file; or let everyone reach one target with --allow-anonymous 127.0.0.1:22; or one backend from a browser with --route /json=127.0.0.1:9000", "nobody may use the tunnel: there is no [[user]], no --allow-anonymous and no --route"))
	}
}

// checkNamedRules finds rules that name a target which does not exist: most
// likely one of the two is misspelt.
func (s *Server) checkNamedRules(l *loader, key string, rules []string) {
	var names []string
	for _, t := range s.Targets {
		names = append(names, t.Name)
	}
	for i, r := range rules {
		if l.partial || !IsTargetName(r) || slices.Contains(names, r) {
			continue
		}
		hint := "add [[target]] with name = \"" + r + "\" and address = \"127.0.0.1:22\", or write the rule as HOST:PORTS"
		if m := Nearest(r, names); m != "" {
			hint = "did you mean " + m + "?"
		}
		l.faults.Add(l.origin(itemID(key, i)), bad(hint, "there is no target named %q", r))
	}
}

func (s *Server) checkTargets(l *loader) {
	seen := map[string]int{}
	for i, t := range s.Targets {
		id := itemID("target", i)
		if t.Name == "" && !l.faulty(id+".name") {
			l.faults.Add(l.origin(id), bad(`add name = "ssh"`, "has no name"))
		}
		if t.Address.IsZero() && !l.faulty(id+".address") {
			l.faults.Add(l.origin(id), bad(`add address = "127.0.0.1:22"`, "target %q has no address", t.Name))
		}
		if first, dup := seen[t.Name]; dup && t.Name != "" {
			l.faults.Add(l.origin(id+".name"), bad("give each target its own name", "target %q is there twice: also at %s", t.Name, l.origin(itemID("target", first)+".name")))
		} else {
			seen[t.Name] = i
		}
	}
}
