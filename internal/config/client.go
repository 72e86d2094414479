package config

import (
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Client is the configuration of adit client and adit check.
type Client struct {
	File      string   // the file that was read; "" for none
	Servers   []string // wss or ws URLs, in order of preference
	TokenFile string   // "" for none
	Token     Secret   // from ADIT_TOKEN; never together with TokenFile
	User      string   // not empty: the secret is this user's password
	Forwards  []Forward
	Stdio     Address // -W; zero for none. Forwards is then empty

	Proxy     string // URL, "none", or "" for the environment's
	ConnectTo string // HOST:PORT to dial instead of the URL's; "" for the URL's
	Host      string // Host header; "" for the URL's
	Headers   []Header

	ServerOrder      string        // "given" or "random"
	PreferInterval   time.Duration // how often an earlier server is looked for
	PingInterval     time.Duration
	LinkWait         time.Duration // how long a connection waits for the link
	ResumeTimeout    time.Duration // how long streams wait for the link; 0 not at all
	MaxConnectionAge time.Duration // 0: any
	ExitOnRefusal    bool
	TLS              ClientTLS
	Log              Log
	Admin            Admin

	origins map[string]string
}

// ClientTLS is how the server is verified and who the client is.
type ClientTLS struct {
	CA                 string   // PEM file; "" is the system's
	Pins               []string // sha256:BASE64; certs reads them
	Cert, Key          string   // PEM files; both or neither
	ServerName         string   // "" is the URL's host
	InsecureSkipVerify bool
}

func (c *Client) settings() []*setting {
	return append([]*setting{
		{key: "server", flag: "server", arg: "URL", value: listValue(&c.Servers, ServerURL),
			usage: "another server, in order of preference; the same as an argument (repeatable)"},
		{key: "server-order", flag: "server-order", arg: "ORDER", def: "given", value: textValue(&c.ServerOrder, serverOrder),
			usage: "try several servers in the order given, or in random"},
		{key: "prefer-interval", flag: "prefer-interval", arg: "DURATION", def: "1m", value: textValue(&c.PreferInterval, duration(time.Second, 24*time.Hour)),
			usage: "look this often whether an earlier server is back"},
		{key: "forward", flag: "forward", short: "L", arg: "FORWARD", value: listValue(&c.Forwards, ParseForward),
			usage: "[BIND:]PORT:HOST:HOSTPORT, [BIND:]PORT:NAME, or paths of unix sockets (repeatable)"},
		{flag: "stdio", short: "W", env: "-", arg: "TARGET", value: textValue(&c.Stdio, ParseStdio),
			usage: "connect stdin and stdout to HOST:PORT or a target's NAME, for ssh's ProxyCommand"},
		{key: "token-file", flag: "token-file", arg: "FILE", value: textValue(&c.TokenFile, filePath),
			usage: "read the token from FILE (or set ADIT_TOKEN)"},
		{env: "ADIT_TOKEN", secret: true, value: textValue(&c.Token, ParseSecret)},
		{key: "user", flag: "user", arg: "NAME", value: textValue(&c.User, userName),
			usage: "log in as NAME; the token file then holds the password"},
		{key: "tls.ca", flag: "ca", arg: "FILE", value: textValue(&c.TLS.CA, filePath),
			usage: "trust these authorities (PEM) instead of the system's"},
		{key: "tls.pin", flag: "pin", arg: "PIN", value: listValue(&c.TLS.Pins, plain),
			usage: "accept only a server with this pin, sha256:BASE64 from adit pin (repeatable)"},
		{key: "tls.cert", flag: "cert", arg: "FILE", value: textValue(&c.TLS.Cert, filePath),
			usage: "client certificate (PEM)"},
		{key: "tls.key", flag: "key", arg: "FILE", value: textValue(&c.TLS.Key, filePath),
			usage: "its private key"},
		{key: "tls.server-name", flag: "server-name", arg: "NAME", value: textValue(&c.TLS.ServerName, hostName),
			usage: "name to ask for (SNI) and to verify, instead of the URL's host"},
		{key: "tls.insecure-skip-verify", flag: "insecure-skip-verify", value: boolValue(&c.TLS.InsecureSkipVerify),
			usage: "accept any server, also an impostor; only ever for a test"},
		{key: "proxy", flag: "proxy", arg: "URL", value: textValue(&c.Proxy, ProxyURL),
			usage: "http, https, socks5 or socks5h proxy, or none (default: HTTPS_PROXY, ALL_PROXY, NO_PROXY)"},
		{key: "host", flag: "host", arg: "NAME", value: textValue(&c.Host, hostHeader),
			usage: "Host header, instead of the URL's"},
		{key: "connect-to", flag: "connect-to", arg: "HOST:PORT", value: textValue(&c.ConnectTo, ParseHostPort),
			usage: "connect to this address, instead of the URL's"},
		{key: "header", flag: "header", arg: "'K: V'", lines: true, value: listValue(&c.Headers, parseHeader),
			usage: "send this header with the upgrade (repeatable)"},
		{key: "ping-interval", flag: "ping-interval", arg: "DURATION", def: "20s", value: textValue(&c.PingInterval, duration(time.Second, time.Hour)),
			usage: "ping the server this often; below the idle timeout of every box on the way"},
		{key: "link-wait", flag: "link-wait", arg: "DURATION", def: "10s", value: textValue(&c.LinkWait, duration(0, time.Hour)),
			usage: "how long a new connection waits while the link is down"},
		{key: "resume-timeout", flag: "resume-timeout", arg: "DURATION", def: "2m", value: textValue(&c.ResumeTimeout, duration(0, 24*time.Hour)),
			usage: "how long connections outlive a lost link, if the server allows it; 0s: not at all"},
		{key: "max-connection-age", flag: "max-connection-age", arg: "DURATION", def: "0s", value: textValue(&c.MaxConnectionAge, duration(0, 30*24*time.Hour)),
			usage: "move to a new connection before this age, where a proxy cuts at a fixed time; 0s: never"},
		{key: "exit-on-refusal", flag: "exit-on-refusal", value: boolValue(&c.ExitOnRefusal),
			usage: "exit when the server refuses for good (token, pin, certificate) instead of trying on"},
		{key: "log-level", flag: "log-level", arg: "LEVEL", def: "info", value: textValue(&c.Log.Level, logLevel),
			usage: "debug, info, warn or error"},
		{key: "log-format", flag: "log-format", arg: "FORMAT", def: "text", value: textValue(&c.Log.Format, logFormat),
			usage: "text, json, or journal: of systemd, with a field for each value"},
	}, c.Admin.settings(false)...)
}

const (
	reverseLater = "reverse forwards come with a later version; run the client on the other side and use -L there"
	dynamicLater = "the SOCKS and HTTP proxy comes with a later version; name each target with -L 5432:db.lan:5432 today"
)

var clientLater = []laterFlag{
	{"reverse", "R", reverseLater},
	{"dynamic", "D", dynamicLater},
}

// ClientFlags defines the flags of adit client in fs. They are those of adit
// check, too.
func ClientFlags(fs *pflag.FlagSet) { register(fs, new(Client).settings(), clientLater) }

// LoadClient reads and checks the configuration of adit client. The Client is
// never nil; with faults it holds what could be read. needWork makes it a
// fault that there is nothing to forward.
func LoadClient(src Sources, needWork bool) (*Client, Faults) {
	c := &Client{}
	l := &loader{}
	doc := c.schema()
	c.File = l.apply(doc.settings, doc, clientLater, src)
	c.origins = l.origins
	c.check(l, needWork)
	return c, l.faults
}

func (c *Client) schema() *schema {
	return &schema{command: "client", settings: c.settings(), later: map[string]string{
		"reverse": reverseLater,
		"dynamic": dynamicLater,
	}}
}

// Origin says where the value of a key came from, as Server.Origin does.
func (c *Client) Origin(key string) string { return (&loader{origins: c.origins}).origin(key) }

// check finds what is wrong between values.
func (c *Client) check(l *loader, needWork bool) {
	if len(c.Servers) == 0 && !l.faulty("server") {
		l.faults.Add("server", bad("give its URL, e.g. adit client -L 2222:ssh wss://gw.example.com/tunnel, or server = [\"wss://…\"] in the file", "no server is named"))
	}
	c.checkWork(l, needWork)
	c.checkSecret(l)
	t := &c.TLS
	if t.Cert != "" && t.Key == "" && !l.faulty("tls.key") {
		l.faults.Add(l.origin("tls.cert"), bad("add --key FILE, or key = \"…\" below [tls]", "has no private key beside it"))
	}
	if t.Key != "" && t.Cert == "" && !l.faulty("tls.cert") {
		l.faults.Add(l.origin("tls.key"), bad("add --cert FILE, or cert = \"…\" below [tls]", "has no certificate beside it"))
	}
	c.checkPlain(l)
	if t.InsecureSkipVerify && (t.CA != "" || len(t.Pins) > 0) {
		l.faults.Add(l.origin("tls.insecure-skip-verify"), bad("leave it out: a pin or a CA is enough for a self-signed server", "contradicts the pin or CA that is also given"))
	}
}

// checkPlain refuses TLS options when no server speaks TLS: whoever set them
// believes the link to be protected.
func (c *Client) checkPlain(l *loader) {
	for _, u := range c.Servers {
		if strings.HasPrefix(u, "wss:") {
			return
		}
	}
	for _, key := range []string{"tls.ca", "tls.pin", "tls.cert", "tls.server-name"} {
		if l.origins[key] != "" && len(c.Servers) > 0 {
			l.faults.Add(l.origin(key), bad("write wss:// instead of ws://", "has no effect: %s is not encrypted", c.Servers[0]))
		}
	}
}

func (c *Client) checkWork(l *loader, needWork bool) {
	if !c.Stdio.IsZero() {
		// As with ssh -W, forwards of a configuration file that a running
		// client uses are left alone; asking for both at once is a mistake.
		if l.origins["forward"] == "--forward" {
			l.faults.Add("--stdio", bad("use -W HOST:PORT or -L, one at a time", "-W and -L exclude each other"))
		}
		c.Forwards = nil
		return
	}
	if needWork && len(c.Forwards) == 0 && !l.faulty("forward") && !l.faulty("stdio") && !l.later {
		l.faults.Add("forward", bad("say what, e.g. adit client -L 5432:db.lan:5432 wss://gw.example.com/tunnel; -L 2222:ssh for a target the server names; -W HOST:PORT for ssh's ProxyCommand", "there is nothing to forward"))
	}
	seen := map[Address]int{}
	for i, f := range c.Forwards {
		if _, port := f.Listen.hostPort(); port == "0" {
			continue // the system chooses: never the same twice
		}
		if first, dup := seen[f.Listen]; dup {
			l.faults.Add(l.origin(itemID("forward", i)), bad("give each forward its own port", "forward %q listens where %q does", f, c.Forwards[first]))
		}
		seen[f.Listen] = i
	}
}

func (c *Client) checkSecret(l *loader) {
	fileOrigin := l.origin("token-file")
	switch {
	case c.Token == "":
	case fileOrigin == "ADIT_TOKEN_FILE":
		l.faults.Add("ADIT_TOKEN", bad("unset one of them", "ADIT_TOKEN_FILE is set too"))
	case fileOrigin == "--token-file":
		c.Token = "" // the flag wins
	default:
		c.TokenFile = "" // the environment wins over the file
	}
	if c.User != "" && c.Token == "" && c.TokenFile == "" && !l.faulty("token-file") && !l.faulty("ADIT_TOKEN") {
		l.faults.Add(l.origin("user"), bad("add --token-file FILE with the password, or set ADIT_TOKEN to it", "user %q has no password", c.User))
	}
}
