package config

import (
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"adit/auth"
	"adit/server"
)

// Server is the configuration of adit server, checked. Paths are as given:
// relative ones start at the working directory.
type Server struct {
	File         string        // the file that was read; "" for none
	Listen       []Address     // never empty
	ListenMode   fs.FileMode   // of unix sockets; 0: the default
	ListenGroup  string        // of unix sockets; "": the process's
	DrainDelay   time.Duration // how long the server serves on after SIGTERM, while it is not ready
	DrainTimeout time.Duration // how long live streams may go on after SIGTERM
	Log          Log
	Admin        Admin
	Metrics      Metrics
	Audit        string // file, "stderr", "-" or "journal"; "" for none
	TLS          ServerTLS
	TunnelPath   string // URL path of the tunnel endpoint
	MaxStreams   int    // per session

	ResumeTimeout    time.Duration // how long a session without its client is kept; 0: not at all
	ResumeMemory     int           // MiB, of all detached sessions
	StreamMemory     int           // MiB, that connected sessions may have to hold
	UserStreamMemory int           // MiB, of them those of one user
	MaxConnectionAge time.Duration // 0: unlimited

	UsersFile      string
	Users          []auth.User // names, hashes and rules are not checked: auth.NewUsers does
	Targets        []Target
	AllowAnonymous []string       // policy rules that need no credentials
	Routes         []server.Route // zero fields stand for the defaults of package server
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and Forwarded are trusted

	// At most one of SiteRoot and SiteProxy is set; without both the site is a
	// small page.
	SiteRoot  string // directory of the site
	SiteProxy string // http://…, https://… or unix:PATH of the web server that has it
	DemoPage  string // URL path of the page to try routes with; "" for none

	origins map[string]string
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

// LoadServer reads and checks the configuration of adit server. The Server is
// never nil; with faults it holds what could be read. A second call reads the
// files again.
func LoadServer(src Sources) (*Server, Faults) {
	s := &Server{}
	l := newLoader()
	s.File = l.load(s.schema(), src)
	s.origins = l.origins
	for _, a := range src.Args {
		advice := "adit server takes flags only, e.g. adit server --config /etc/adit/server.toml"
		if strings.HasSuffix(a, ".toml") || isPath(a) {
			l.partial = true // it would have what is missing
			advice = "did you mean adit server --config " + a + "?"
		}
		l.faults.Add("argument "+quoted(Redact(a)), bad(advice, "unexpected"))
	}
	if s.UsersFile != "" {
		l.readFile(s.UsersFile, s.Origin("users"), s.usersSchema())
	}
	s.check(l)
	return s, l.finish()
}

// Origin says where the value of a key came from, for messages about it:
// "server.toml:12: tls.cert", "--tls-cert", or the key itself when it is not
// set. Items are written listen[0], user[2].name, user[2].allow[0]. For a key
// that an element lacks it is the place of the element.
func (s *Server) Origin(key string) string { return originOf(s.origins, key) }

// NeedRestart lists the keys that require a restart and whose values differ
// from those of the Server in force.
func (s *Server) NeedRestart(inForce *Server) []string {
	var keys []string
	before := inForce.settings()
	for i, now := range s.settings() {
		if now.restart && !reflect.DeepEqual(now.to.get(), before[i].to.get()) {
			keys = append(keys, now.key)
		}
	}
	return keys
}
