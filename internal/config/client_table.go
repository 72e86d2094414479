package config

import "time"

const (
	reverseLater = "reverse forwards come with a later version; run the client on the other side and use -L there"
	tokenInFile  = `put it into a file that only you can read, and write token-file = "/etc/adit/token"`
	dynamicLater = "the SOCKS and HTTP proxy comes with a later version; name each target with -L 5432:db.lan:5432 today"
)

var clientLater = []laterFlag{
	{"reverse", "R", reverseLater},
	{"dynamic", "D", dynamicLater},
}

func (c *Client) schema() *schema {
	return &schema{
		command:  "client",
		settings: c.settings(),
		groups: []group{
			{"", "Top of the file, before the first [table]."},
			{"tls", "How the server is verified, and how the client identifies itself."},
			{"admin", "Where adit status, Prometheus and the status page find this client."},
			{"metrics", "Where scrapers of other machines find this client."},
		},
		later:      map[string]string{"reverse": reverseLater, "dynamic": dynamicLater},
		instead:    map[string]string{"token": tokenInFile, "password": tokenInFile, "secret": tokenInFile, "auth": tokenInFile},
		laterFlags: clientLater,
	}
}

// settings are all of client.toml and of the flags of adit client, in the
// order of the help.
func (c *Client) settings() []*setting {
	settings := []*setting{
		{key: argsKey, flag: "server", arg: "URL", to: list(&c.Servers, ServerURL), required: true,
			help: "another server, in order of preference; the same as an argument",
			doc: `URLs of the server, in order of preference: wss://HOST[:PORT][/PATH]. Without a path it is /tunnel. ws:// is
				not encrypted. An argument of the command line is the same as --server.`,
			example: `["wss://gw.example.com/tunnel"]`},
		{key: "server-order", flag: "server-order", arg: "ORDER", to: choice(&c.ServerOrder, "server order", "given", "random"), def: "given",
			help: "order in which several servers are tried",
			doc: `Order in which several servers are tried: "given" prefers the first, and goes back to it when it is
				reachable again; "random" spreads many clients over the servers. The server that worked last is tried first.`,
			example: `"random"`},
		{key: "prefer-interval", flag: "prefer-interval", arg: "DURATION", to: duration(&c.PreferInterval, time.Second, 24*time.Hour), def: "1m",
			help: "how often to look whether an earlier server is reachable again",
			doc: `How often a client that is connected to a later server of the list looks whether an earlier one is reachable
				again. New connections then go to that one; the others end where they are.`,
			example: `"5m"`},
		{key: "forward", flag: "forward", short: "L", arg: "FORWARD", to: list(&c.Forwards, ParseForward),
			help: "[BIND:]PORT:HOST:HOSTPORT, [BIND:]PORT:NAME, PORT alone, or paths of unix sockets",
			doc: `Where to listen and where to connect to: [BIND:]PORT:HOST:HOSTPORT, [BIND:]PORT:NAME for a [[target]] of the
				server, or [BIND:]PORT:/PATH for a unix socket there. PORT alone, "8080", leads to the same port of the server's
				own loopback, and PORT:PORT to another one. In place of [BIND:]PORT also /PATH for a unix socket
				here (mode 0600), or systemd:NAME for a socket that systemd hands over. BIND defaults to both loopback addresses, 127.0.0.1 and [::1], as does localhost; 0.0.0.0 is every IPv4 address. "*", or
				nothing before the colon (":8080:…"), is every interface: every host that reaches this machine then reaches
				the target.`,
			example: `["2222:ssh", "127.0.0.1:5432:db.lan:5432", "/run/user/1000/db.sock:/run/postgresql/.s.PGSQL.5432"]`},
		{flag: "stdio", short: "W", env: "-", arg: "TARGET", to: text(&c.Stdio, ParseStdio),
			help: "connect stdin and stdout to HOST:PORT or a target's NAME, for ssh's ProxyCommand"},
		{key: "token-file", flag: "token-file", arg: "FILE", to: text(&c.TokenFile, filePath), unset: "none, or the variable ADIT_TOKEN",
			help: "read the token from FILE (or set ADIT_TOKEN)",
			doc: `File with the token, as adit token prints it; with user, the password. No other user should be able to read
				it.`,
			example: `"/etc/adit/token"`},
		{env: "ADIT_TOKEN", secret: true, to: text(&c.Token, ParseSecret),
			help: "the token, or with --user the password; never a flag or a key"},
		{key: "user", flag: "user", arg: "NAME", to: text(&c.User, userName), unset: "none, the token is enough",
			help:    "log in as NAME; the token file then holds the password",
			doc:     `Log in by HTTP Basic with this name and the password in token-file.`,
			example: `"alice"`},
		{key: "tls.ca", flag: "ca", arg: "FILE", to: text(&c.TLS.CA, filePath), unset: "the system's",
			help:    "trust these authorities (PEM) instead of the system's",
			doc:     `PEM file of authorities to trust instead of the system's.`,
			example: `"/etc/adit/ca.pem"`},
		{key: "tls.pin", flag: "pin", arg: "PIN", to: list(&c.TLS.Pins, plain),
			help: "accept only a server with this pin, sha256:BASE64 from adit pin",
			doc: `Pins of the server's key, as adit pin prints them: one of them must match. A pin takes the place of
				authorities and of the name; with ca, both are checked.`,
			example: `["sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]`},
		{key: "tls.cert", flag: "cert", arg: "FILE", to: text(&c.TLS.Cert, filePath),
			help:    "client certificate in PEM",
			example: `"/etc/adit/client.pem"`},
		{key: "tls.key", flag: "key", arg: "FILE", to: text(&c.TLS.Key, filePath),
			help:    "private key of the client certificate, in PEM",
			example: `"/etc/adit/client-key.pem"`},
		{key: "tls.server-name", flag: "server-name", arg: "NAME", to: text(&c.TLS.ServerName, hostName), unset: "the URL's host",
			help:    "name to ask for (SNI) and to verify",
			example: `"gw.example.com"`},
		{key: "tls.insecure-skip-verify", flag: "insecure-skip-verify", to: boolean(&c.TLS.InsecureSkipVerify),
			help:    "accept every server, an impostor too; for tests only",
			doc:     `Accept every server, an impostor too, who then has the token. For tests only; not together with ca or pin.`,
			example: "true"},
		{key: "tls.no-small-hello", flag: "no-small-hello", to: boolean(&c.TLS.NoSmallHello),
			help: "never try TLS without post-quantum key shares",
			doc: `Some firewalls lose a ClientHello that does not fit into one packet. After a reset or silence in the TLS
				handshake the client makes one attempt with a small one, without post-quantum key shares, and logs a warning.
				This forbids it.`,
			example: "true"},
		{key: "proxy", flag: "proxy", arg: "URL", to: text(&c.Proxy, ProxyURL), unset: "from HTTPS_PROXY, ALL_PROXY and NO_PROXY",
			help: "http, https, socks5 or socks5h proxy, or none (default: HTTPS_PROXY, ALL_PROXY, NO_PROXY)",
			doc: `Upstream proxy: http://, https://, socks5:// or socks5h://, with user and password if it requires them; or
				"none".`,
			example: `"http://proxy.corp:3128"`},
		{key: "host", flag: "host", arg: "NAME", to: text(&c.Host, hostHeader), unset: "the URL's",
			help:    "Host header, instead of the URL's",
			doc:     `Host header of the request.`,
			example: `"gw.example.com"`},
		{key: "connect-to", flag: "connect-to", arg: "ADDRESS", to: text(&c.ConnectTo, connectTo), unset: "the URL's",
			help: "connect to this HOST:PORT or unix:PATH, instead of the URL's",
			doc: `HOST:PORT, or unix:PATH for a unix socket, to connect to instead of the URL's; TLS and HTTP still use the
				URL's. A socket is connected to without a proxy.`,
			example: `"192.0.2.10:443"`},
		{key: "header", flag: "header", arg: "'K: V'", lines: true, to: list(&c.Headers, parseHeader),
			help:    "send this header with the upgrade",
			doc:     `More headers of the upgrade, each "Name: value". Not for adit's credentials.`,
			example: `["X-Team: db"]`},
		{key: "ping-interval", flag: "ping-interval", arg: "DURATION", to: duration(&c.PingInterval, time.Second, time.Hour), def: "20s",
			help:    "ping the server this often; below the shortest idle timeout of middleboxes",
			doc:     `How often the server is pinged. Keep it below the shortest idle timeout of the middleboxes on the path.`,
			example: `"20s"`},
		{key: "link-wait", flag: "link-wait", arg: "DURATION", to: duration(&c.LinkWait, 0, time.Hour), def: "10s",
			help:    "how long a new connection waits while the link is down",
			doc:     `How long a new connection waits while the link is down; then it is reset.`,
			example: `"10s"`},
		{key: "resume-timeout", flag: "resume-timeout", arg: "DURATION", to: duration(&c.ResumeTimeout, 0, 24*time.Hour), def: "2m",
			help: "how long connections survive a lost link, if the server allows it; 0s: not at all",
			doc: `How long connections wait for a lost link to come back; then they are reset. "0s" is not at all. The server
				has its own setting, and the shorter time counts.`,
			example: `"10m"`},
		{key: "max-connection-age", flag: "max-connection-age", arg: "DURATION", to: duration(&c.MaxConnectionAge, 0, 30*24*time.Hour), def: "0s",
			help: "move to a new connection before this age, for proxies that cut at a fixed time; 0s: never",
			doc: `Move the link to a new connection before the present one reaches this age, for proxies that cut every
				connection after a fixed time. "0s" is never. No data is lost or delayed; without resumption only new streams
				move.`,
			example: `"55m"`},
		{key: "exit-on-refusal", flag: "exit-on-refusal", to: boolean(&c.ExitOnRefusal),
			help: "exit when the server refuses permanently (token, pin, certificate), instead of retrying",
			doc: `Exit with status 1 when the server refuses permanently (token, pin, certificate), instead of retrying
				indefinitely.`,
			example: "true"},
	}
	settings = append(settings, c.Log.settings(`"info", with -W nothing about the link`, false)...)
	settings = append(settings, c.Admin.settings(false)...)
	return append(settings, c.Metrics.settings(false)...)
}
