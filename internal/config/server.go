package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"adit/auth"
	"adit/server"
)

// Server is the configuration of adit server. Sections say what a zero value
// means; paths are as given, relative ones to the working directory.
type Server struct {
	File         string        // the file that was read; "" for none
	Listen       []Address     // never empty
	DrainTimeout time.Duration // how long live streams may go on after SIGTERM
	Log          Log
	Admin        Admin
	Audit        string // file, "stderr", "-" or "journal"; "" for none
	TLS          ServerTLS
	TunnelPath   string // the URL path of the tunnel endpoint
	MaxStreams   int    // per session

	ResumeTimeout    time.Duration // how long a session waits for its client; 0 not at all
	ResumeMemory     int           // MiB, of all sessions that wait
	MaxConnectionAge time.Duration // 0: any

	UsersFile      string
	Users          []auth.User // not checked: auth.NewUsers does
	Targets        []Target
	AllowAnonymous []string       // policy rules that need no credentials
	Routes         []server.Route // a number or duration of 0 was not given, one below 0 is "none"
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and Forwarded are believed

	// At most one of the two is set; neither is a small default page.
	SiteRoot  string // directory of the site
	SiteProxy string // http://…, https://… or unix:PATH of the web server that has it
	DemoPage  string // URL path of the page to try routes with; "" for none

	origins map[string]string
}

// Log is what both ends log.
type Log struct {
	Level  slog.Level
	Format string // "text", "json" or "journal"
}

// ServerTLS is where the certificate comes from. Exactly one of Cert with Key,
// SelfSigned, ACMEDomains and Off is set.
type ServerTLS struct {
	Cert, Key     string // PEM files
	SelfSigned    string // directory in which a certificate is kept
	ACMEDomains   []string
	ACMEEmail     string
	ACMEDirectory string // URL; "" is Let's Encrypt
	ACMECA        string // PEM file trusted for the directory; "" is the system's
	ACMECache     string // directory for account and certificates; "" is the caller's choice
	Off           bool
	ClientCA      string // PEM file; client certificates it signed are identities
}

// Target is a [[target]].
type Target struct {
	Name    string
	Address Address // tcp or unix
}

func (s *Server) settings() []*setting {
	return append([]*setting{
		{key: "listen", flag: "listen", short: "l", arg: "ADDRESS", def: ":443", restart: true, value: listValue(&s.Listen, ParseListen),
			usage: "listen here: HOST:PORT, :PORT, unix:PATH or systemd:NAME (repeatable)"},
		{key: "tls.cert", flag: "tls-cert", arg: "FILE", value: textValue(&s.TLS.Cert, filePath),
			usage: "certificate chain in PEM; read again when it changes"},
		{key: "tls.key", flag: "tls-key", arg: "FILE", value: textValue(&s.TLS.Key, filePath),
			usage: "its private key"},
		{key: "tls.self-signed", flag: "self-signed", arg: "DIR", value: textValue(&s.TLS.SelfSigned, filePath),
			usage: "make a certificate once, keep it in DIR, print its pin"},
		{key: "tls.acme-domains", flag: "acme-domain", arg: "NAME", value: listValue(&s.TLS.ACMEDomains, domain),
			usage: "obtain a certificate for NAME by ACME (Let's Encrypt), on this port (repeatable)"},
		{key: "tls.acme-email", flag: "acme-email", arg: "ADDRESS", value: textValue(&s.TLS.ACMEEmail, email),
			usage: "where the ACME authority may write"},
		{key: "tls.acme-directory", flag: "acme-directory", arg: "URL", value: textValue(&s.TLS.ACMEDirectory, directoryURL),
			usage: "another ACME authority than Let's Encrypt"},
		{key: "tls.acme-ca", flag: "acme-ca", arg: "FILE", value: textValue(&s.TLS.ACMECA, filePath),
			usage: "trust these certificates when talking to the ACME authority"},
		{key: "tls.acme-cache", flag: "acme-cache", arg: "DIR", value: textValue(&s.TLS.ACMECache, filePath),
			usage: "keep ACME's account and certificates here"},
		{key: "tls.off", flag: "no-tls", restart: true, value: boolValue(&s.TLS.Off),
			usage: "speak plain HTTP, for use behind a proxy that does TLS"},
		{key: "tls.client-ca", flag: "client-ca", arg: "FILE", value: textValue(&s.TLS.ClientCA, filePath),
			usage: "accept client certificates that these authorities signed"},
		{key: "tunnel.path", flag: "tunnel-path", arg: "PATH", def: "/tunnel", restart: true, value: textValue(&s.TunnelPath, tunnelPath),
			usage: "URL path of the tunnel"},
		{key: "tunnel.max-streams", flag: "max-streams", arg: "N", def: "4096", value: numberValue(&s.MaxStreams, 1, 1<<20),
			usage: "connections that one client may have open at once"},
		{key: "tunnel.resume-timeout", flag: "resume-timeout", arg: "DURATION", def: "2m", restart: true, value: textValue(&s.ResumeTimeout, duration(0, 24*time.Hour)),
			usage: "keep the connections of a client that lost its link for this long; 0s: not at all"},
		{key: "tunnel.resume-memory", flag: "resume-memory", arg: "MIB", def: "256", restart: true, value: numberValue(&s.ResumeMemory, 1, 1<<20),
			usage: "what clients that lost their links may hold together, in MiB; the oldest are dropped first"},
		{key: "tunnel.max-connection-age", flag: "max-connection-age", arg: "DURATION", def: "0s", restart: true, value: textValue(&s.MaxConnectionAge, duration(0, 30*24*time.Hour)),
			usage: "ask clients to move to a new connection before this age; 0s: never"},
		{key: "users", flag: "users", arg: "FILE", value: textValue(&s.UsersFile, filePath),
			usage: "read [[user]] and [[target]] tables from this file too"},
		{key: "allow-anonymous", flag: "allow-anonymous", arg: "TARGET", value: listValue(&s.AllowAnonymous, plain),
			usage: "let anyone reach TARGET, a rule as in a user's allow list (repeatable)"},
		{key: routeKey, flag: "route", arg: "PATH=BACKEND", value: routeFlag{s},
			usage: "let plain WebSockets at PATH reach BACKEND, HOST:PORT or unix:PATH; ?KEY=VALUE&… adds keys of [[route]] (repeatable)"},
		{key: "trusted-proxies", flag: "trusted-proxy", arg: "NETWORK", value: listValue(&s.TrustedProxies, ParsePrefix),
			usage: "believe X-Forwarded-For and Forwarded from here (repeatable)"},
		{key: "site.root", flag: "site", arg: "DIR|URL", value: siteValue{s},
			usage: "show everyone else the files in DIR, or what the web server at URL answers"},
		{key: "site.proxy", env: "-", value: into(siteURL, func(v string) { s.SiteRoot, s.SiteProxy = "", v })},
		{key: "demo-page", flag: "demo-page", arg: "PATH", value: textValue(&s.DemoPage, pagePath),
			usage: "show a page to try the routes with at PATH, e.g. /console"},
		{key: "drain-timeout", flag: "drain-timeout", arg: "DURATION", def: "30s", value: textValue(&s.DrainTimeout, duration(0, 24*time.Hour)),
			usage: "let live connections finish for this long when asked to stop"},
		{key: "log-level", flag: "log-level", arg: "LEVEL", def: "info", value: textValue(&s.Log.Level, logLevel),
			usage: "debug, info, warn or error"},
		{key: "log-format", flag: "log-format", arg: "FORMAT", def: "text", restart: true, value: textValue(&s.Log.Format, logFormat),
			usage: "text, json, or journal: of systemd, with a field for each value"},
		{key: "audit", flag: "audit", arg: "FILE", value: textValue(&s.Audit, filePath),
			usage: "append a record of every connection to FILE; or stderr, - for standard output, journal"},
	}, s.Admin.settings(true)...)
}

// newUser and newTarget make room for one more element of the file.
func (s *Server) newUser() ([]*setting, int) {
	i := len(s.Users)
	s.Users = append(s.Users, auth.User{})
	// The closures index the slice, which moves when it grows. A def here is
	// only the example for messages.
	return []*setting{
		{key: "name", value: into(plain, func(v string) { s.Users[i].Name = v })},
		{key: "token-hash", secret: true, value: into(plain, func(v string) { s.Users[i].TokenHash = v })},
		{key: "cert-name", value: into(plain, func(v string) { s.Users[i].CertName = v })},
		{key: "allow", value: listInto(plain, func(v string) { s.Users[i].Allow = append(s.Users[i].Allow, v) })},
		{key: "max-sessions", def: "8", value: numberInto(1, 1<<16, func(v int) { s.Users[i].MaxSessions = v })},
	}, i
}

func (s *Server) newTarget() ([]*setting, int) {
	i := len(s.Targets)
	s.Targets = append(s.Targets, Target{})
	return []*setting{
		{key: "name", value: into(targetName, func(v string) { s.Targets[i].Name = v })},
		{key: "address", value: into(ParseTarget, func(v Address) { s.Targets[i].Address = v })},
	}, i
}

// siteValue is where the site comes from: in the file a directory, at --site
// either. It takes the place of [site] proxy, too.
type siteValue struct{ s *Server }

func (v siteValue) shape() shape { return text }
func (v siteValue) clear()       { v.s.SiteRoot, v.s.SiteProxy = "", "" }
func (v siteValue) set(text string) (err error) {
	if isSiteURL(text) {
		v.s.SiteProxy, err = siteURL(text)
		return err
	}
	v.s.SiteRoot, err = filePath(text)
	return err
}

// routeKey is a table in the file and a flag of its own kind.
const routeKey = "route"

func (s *Server) schema() *schema {
	return &schema{
		command:  "server",
		settings: s.settings(),
		tables:   s.tables(),
		later: map[string]string{
			"user.listen": "reverse forwards come with a later version; run the client on the other side and use -L there",
		},
	}
}

// usersTables are the tables of a users file.
func (s *Server) usersTables() map[string]func() ([]*setting, int) {
	return map[string]func() ([]*setting, int){"user": s.newUser, "target": s.newTarget}
}

func (s *Server) tables() map[string]func() ([]*setting, int) {
	all := s.usersTables()
	all[routeKey] = s.newRoute
	return all
}

// ServerFlags defines the flags of adit server in fs.
func ServerFlags(fs *pflag.FlagSet) { register(fs, new(Server).settings(), nil) }

// LoadServer reads and checks the configuration of adit server. The Server is
// never nil; with faults it holds what could be read, and Faults.Err is not
// nil. Calling it again re-reads the files.
func LoadServer(src Sources) (*Server, Faults) {
	s := &Server{}
	l := &loader{}
	doc := s.schema()
	s.File = l.apply(doc.settings, doc, nil, src)
	s.origins = l.origins
	for _, a := range src.Args {
		l.faults.Add("argument "+quoted(a), bad("adit server takes flags only, e.g. adit server --config /etc/adit/server.toml", "unexpected"))
	}
	if s.UsersFile != "" {
		l.readFile(s.UsersFile, s.Origin("users"), &schema{command: "server", tables: s.usersTables()})
	}
	s.check(l)
	return s, l.faults
}

// Origin says where the value of a key came from, for messages about it:
// "server.toml:12: tls.cert", "--tls-cert", or the key itself when it is not
// set. Items are written listen[0], user[2].name, user[2].allow[0]; for a key
// that a table lacks it is the table's place.
func (s *Server) Origin(key string) string { return (&loader{origins: s.origins}).origin(key) }

// NeedRestart lists the keys whose values differ from those of the Server in
// force and that a reload leaves as they were. All others it changes.
func (s *Server) NeedRestart(inForce *Server) []string {
	var keys []string
	before := inForce.settings()
	for i, now := range s.settings() {
		if now.restart && !reflect.DeepEqual(now.value.(holder).get(), before[i].value.(holder).get()) {
			keys = append(keys, now.key)
		}
	}
	return keys
}

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
	if t.Off && l.origins["listen"] == "" && !l.faulty("listen") {
		l.faults.Add(l.origin("tls.off"), bad("say where: --listen 127.0.0.1:8080", "plain HTTP has no default address"))
	}
	if len(t.ACMEDomains) == 0 && !l.faulty("tls.acme-domains") {
		for _, key := range []string{"tls.acme-email", "tls.acme-directory", "tls.acme-ca", "tls.acme-cache"} {
			if l.origins[key] != "" {
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
