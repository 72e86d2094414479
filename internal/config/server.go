package config

import (
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// Server is the configuration of adit server. Sections say what a zero value
// means; paths are as given, relative ones to the working directory.
type Server struct {
	File         string        // the file that was read; "" for none
	Listen       []Address     // never empty
	DrainTimeout time.Duration // how long live streams may go on after SIGTERM
	Log          Log
	TLS          ServerTLS
	TunnelPath   string // the URL path of the tunnel endpoint
	MaxStreams   int    // per session

	UsersFile      string
	Users          []User
	Targets        []Target
	AllowAnonymous []string // policy rules that need no credentials
	SiteRoot       string   // directory of the site; "" for a small default page

	origins map[string]string
}

// Log is what both ends log.
type Log struct {
	Level  slog.Level
	Format string // "text" or "json"
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

// User is a [[user]]. Rules and hashes are texts here; auth reads them.
type User struct {
	Name, TokenHash, CertName string
	Allow                     []string
	MaxSessions               int // 0: the server's default
}

// Target is a [[target]].
type Target struct {
	Name    string
	Address Address // tcp or unix
}

func (s *Server) settings() []*setting {
	return []*setting{
		{key: "listen", flag: "listen", short: "l", arg: "ADDRESS", def: ":443", value: listValue(&s.Listen, ParseListen),
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
		{key: "tls.off", flag: "no-tls", value: boolValue(&s.TLS.Off),
			usage: "speak plain HTTP, for use behind a proxy that does TLS"},
		{key: "tls.client-ca", flag: "client-ca", arg: "FILE", value: textValue(&s.TLS.ClientCA, filePath),
			usage: "accept client certificates that these authorities signed"},
		{key: "tunnel.path", flag: "tunnel-path", arg: "PATH", def: "/tunnel", value: textValue(&s.TunnelPath, urlPath),
			usage: "URL path of the tunnel"},
		{key: "tunnel.max-streams", flag: "max-streams", arg: "N", def: "4096", value: numberValue(&s.MaxStreams, 1, 1<<20),
			usage: "connections that one client may have open at once"},
		{key: "users", flag: "users", arg: "FILE", value: textValue(&s.UsersFile, filePath),
			usage: "read [[user]] and [[target]] tables from this file too"},
		{key: "allow-anonymous", flag: "allow-anonymous", arg: "TARGET", value: listValue(&s.AllowAnonymous, plain),
			usage: "let anyone reach TARGET, a rule as in a user's allow list (repeatable)"},
		{key: "site.root", flag: "site", arg: "DIR", value: textValue(&s.SiteRoot, filePath),
			usage: "show the files in DIR to everyone else"},
		{key: "drain-timeout", flag: "drain-timeout", arg: "DURATION", def: "30s", value: textValue(&s.DrainTimeout, duration(0, 24*time.Hour)),
			usage: "let live connections finish for this long when asked to stop"},
		{key: "log-level", flag: "log-level", arg: "LEVEL", def: "info", value: textValue(&s.Log.Level, logLevel),
			usage: "debug, info, warn or error"},
		{key: "log-format", flag: "log-format", arg: "FORMAT", def: "text", value: textValue(&s.Log.Format, logFormat),
			usage: "text or json"},
	}
}

// newUser and newTarget make room for one more element of the file.
func (s *Server) newUser() ([]*setting, int) {
	i := len(s.Users)
	s.Users = append(s.Users, User{})
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

var serverLater = []laterFlag{
	{"route", "", routesLater},
	{"admin", "", adminLater},
}

const (
	routesLater = "plain WebSocket routes come with a later version; clients reach backends with adit client -L today"
	adminLater  = "the admin socket comes with a later version; watch the log on stderr today"
)

func (s *Server) schema() *schema {
	return &schema{
		command:  "server",
		settings: s.settings(),
		tables:   s.tables(),
		later: map[string]string{
			"route":       routesLater,
			"admin":       adminLater,
			"site.proxy":  "a site behind a reverse proxy comes with a later version; use [site] root = \"/var/www/html\" today",
			"user.listen": "reverse forwards come with a later version; run the client on the other side and use -L there",
		},
	}
}

func (s *Server) tables() map[string]func() ([]*setting, int) {
	return map[string]func() ([]*setting, int){"user": s.newUser, "target": s.newTarget}
}

// ServerFlags defines the flags of adit server in fs.
func ServerFlags(fs *pflag.FlagSet) { register(fs, new(Server).settings(), serverLater) }

// LoadServer reads and checks the configuration of adit server. The Server is
// never nil; with faults it holds what could be read, and Faults.Err is not
// nil. Calling it again re-reads the files.
func LoadServer(src Sources) (*Server, Faults) {
	s := &Server{}
	l := &loader{}
	doc := s.schema()
	s.File = l.apply(doc.settings, doc, serverLater, src)
	s.origins = l.origins
	for _, a := range src.Args {
		l.faults.Add("argument "+quoted(a), bad("adit server takes flags only, e.g. adit server --config /etc/adit/server.toml", "unexpected"))
	}
	if s.UsersFile != "" {
		l.readFile(s.UsersFile, s.Origin("users"), &schema{command: "server", tables: s.tables()})
	}
	s.check(l)
	return s, l.faults
}

// Origin says where the value of a key came from, for messages about it:
// "server.toml:12: tls.cert", "--tls-cert", or the key itself when it is not
// set. Items are written listen[0], user[2].name, user[2].allow[0]; for a key
// that a table lacks it is the table's place.
func (s *Server) Origin(key string) string { return (&loader{origins: s.origins}).origin(key) }

// check finds what is wrong between values.
func (s *Server) check(l *loader) {
	s.checkTLS(l)
	if len(s.Listen) == 0 && !l.faulty("listen") {
		l.faults.Add(l.origin("listen"), bad("write listen = [\":443\"]", "there is no address to listen on"))
	}
	s.checkUsers(l)
	s.checkTargets(l)
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
		if len(u.Allow) == 0 && !l.faulty(id+".allow") {
			l.faults.Add(l.origin(id), bad(`add allow = ["127.0.0.1:22"], or "*:*" for everything`, "user %q may reach nothing", u.Name))
		}
		s.checkNamedRules(l, id+".allow", u.Allow)
	}
	s.checkNamedRules(l, "allow-anonymous", s.AllowAnonymous)
	if len(s.Users) == 0 && len(s.AllowAnonymous) == 0 && !l.faulty("users") && !l.faulty("allow-anonymous") {
		l.faults.Add("user", bad("make a token with `adit token alice`, put the printed token-hash below [[user]] in the configuration or a --users file, or let everyone reach one target with --allow-anonymous 127.0.0.1:22", "nobody may use the tunnel: there is no [[user]] and no --allow-anonymous"))
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
