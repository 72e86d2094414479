package config

import (
	"strconv"
	"time"

	"adit/auth"
	"adit/server"
)

// routeKey is a table of the file and a flag with a form of its own.
const routeKey = "route"

func (s *Server) schema() *schema {
	return &schema{
		command:  "server",
		settings: s.settings(),
		elements: append(s.usersTables(), &elementsOf[server.Route]{table: routeKey, to: &s.Routes, settings: routeSettings}),
		groups: []group{
			{"", "Top of the file, before the first [table]."},
			{"tls", "The certificate. Exactly one of: cert with key, self-signed, acme-domains, off."},
			{"tunnel", "The endpoint that adit client connects to."},
			{"site", "What all other requests get. At most one of the two."},
			{"user", "A user: one table for each."},
			{"target", "A named target, for allow lists, for -L PORT:NAME, and for routes."},
			{routeKey, `A route: plain WebSockets at a URL path, those of browsers too, reach a backend. docs/gateway.md explains
				routes. Flag: --route PATH=BACKEND[,BACKEND…][?KEY=VALUE&…], which replaces all tables.`},
			{"admin", "Where adit status, Prometheus and the status page find this server."},
			{"metrics", "Where scrapers of other machines find this server."},
		},
		later:   map[string]string{"user.listen": reverseLater},
		instead: hashInstead,
	}
}

// hashInstead is for secrets in place of their hashes.
var hashInstead = map[string]string{
	"token":         tokenOfUser,
	"user.token":    tokenOfUser,
	"user.password": `write token-hash = "$2a$…", as adit token --password NAME prints it: the server has only the hash of a password`,
}

const tokenOfUser = `write token-hash = "sha256:…" below [[user]], as adit token NAME prints it: the token itself is the client's`

// usersSchema is that of a users file.
func (s *Server) usersSchema() *schema {
	return &schema{command: "server", elements: s.usersTables(), instead: hashInstead}
}

func (s *Server) usersTables() []elements {
	return []elements{
		&elementsOf[auth.User]{table: "user", to: &s.Users, settings: userSettings},
		&elementsOf[Target]{table: "target", to: &s.Targets, settings: targetSettings},
	}
}

// settings are all of server.toml and of the flags of adit server, in the
// order of the help.
func (s *Server) settings() []*setting {
	settings := []*setting{
		{key: "listen", flag: "listen", short: "l", arg: "ADDRESS", to: list(&s.Listen, ParseListen), def: ":443", restart: true,
			help: "listen here: HOST:PORT, :PORT, unix:PATH or systemd:NAME",
			doc: `Addresses to listen on: "HOST:PORT", ":PORT" for every interface, "unix:PATH" (see listen-mode), or "systemd:NAME" for a socket that systemd hands over, by its
				FileDescriptorName= or else the socket unit's name. With tls.off there is no default.`,
			example: `[":443", "[2001:db8::1]:8443", "unix:/run/adit/server.sock"]`},
		{key: "listen-mode", flag: "listen-mode", arg: "MODE", to: text(&s.ListenMode, fileMode), def: "0660", restart: true,
			help:    "mode of the unix sockets in listen",
			doc:     `Mode of the unix sockets in listen, in octal. Who may write to a socket may connect.`,
			example: `"0666"`},
		{key: "listen-group", flag: "listen-group", arg: "GROUP", to: text(&s.ListenGroup, plain), unset: "that of the process", restart: true,
			help:    "group of the unix sockets in listen, such as the web server's in front",
			doc:     `Group of the unix sockets in listen, by name or number, such as that of the web server in front. adit's user has to be a member.`,
			example: `"www-data"`},
		{key: "tls.cert", flag: "tls-cert", arg: "FILE", to: text(&s.TLS.Cert, filePath),
			help:    "certificate chain in PEM; read again when it changes",
			doc:     `Certificate chain in PEM, the server's own certificate first. Read again when the file changes, and on SIGHUP.`,
			example: `"/etc/adit/fullchain.pem"`},
		{key: "tls.key", flag: "tls-key", arg: "FILE", to: text(&s.TLS.Key, filePath),
			help:    "private key of the certificate, in PEM",
			example: `"/etc/adit/privkey.pem"`},
		{key: "tls.self-signed", flag: "self-signed", arg: "DIR", to: text(&s.TLS.SelfSigned, filePath),
			help: "create a certificate once, keep it in DIR, log its pin",
			doc: `Directory in which a self-signed certificate is created once and kept. Clients need its pin, which the log
				shows at every start and adit pin prints.`,
			example: `"/var/lib/adit/tls"`},
		{key: "tls.acme-domains", flag: "acme-domain", arg: "NAME", to: list(&s.TLS.ACMEDomains, domain),
			help: "obtain a certificate for NAME by ACME (Let's Encrypt), on this port",
			doc: `Names for which a certificate is obtained and renewed by ACME. The authority has to reach this server on
				port 443 of each name.`,
			example: `["gw.example.com"]`},
		{key: "tls.acme-email", flag: "acme-email", arg: "ADDRESS", to: text(&s.TLS.ACMEEmail, email),
			help:    "contact address for the ACME authority",
			example: `"admin@example.com"`},
		{key: "tls.acme-directory", flag: "acme-directory", arg: "URL", to: text(&s.TLS.ACMEDirectory, directoryURL), unset: "Let's Encrypt",
			help:    "directory URL of another ACME authority",
			example: `"https://acme.corp.example/directory"`},
		{key: "tls.acme-ca", flag: "acme-ca", arg: "FILE", to: text(&s.TLS.ACMECA, filePath), unset: "the system's",
			help:    "authorities to trust when talking to the ACME authority, in PEM",
			example: `"/etc/adit/acme-ca.pem"`},
		{key: "tls.acme-cache", flag: "acme-cache", arg: "DIR", to: text(&s.TLS.ACMECache, filePath),
			unset:   "acme in $STATE_DIRECTORY, /var/lib/adit or ~/.local/state/adit",
			help:    "directory for the ACME account and certificates",
			doc:     `Directory for the ACME account and certificates. Keep it: authorities limit how often they issue.`,
			example: `"/var/lib/adit/acme"`},
		{key: "tls.off", flag: "no-tls", to: boolean(&s.TLS.Off), restart: true,
			help: "serve plain HTTP, behind a proxy that terminates TLS",
			doc: `Serve plain HTTP, behind a proxy on the same machine that terminates TLS. A reload that would change this is
				refused.`,
			example: "true"},
		{key: "tls.client-ca", flag: "client-ca", arg: "FILE", to: text(&s.TLS.ClientCA, filePath),
			help: "accept client certificates that these authorities signed",
			doc: `PEM file of authorities that sign client certificates. A certificate identifies the user whose cert-name it
				has; clients need not present one.`,
			example: `"/etc/adit/clients.pem"`},
		{key: "tunnel.path", flag: "tunnel-path", arg: "PATH", to: text(&s.TunnelPath, tunnelPath), def: server.DefaultTunnelPath, restart: true,
			help:    "URL path of the tunnel endpoint",
			doc:     `URL path of the tunnel endpoint. A path that scanners do not guess keeps them away from it.`,
			example: `"/tunnel"`},
		{key: "tunnel.max-streams", flag: "max-streams", arg: "N", to: number(&s.MaxStreams, 1, 1<<20), def: strconv.Itoa(server.DefaultMaxStreams),
			help:    "streams (connections) that one session may have open at once",
			doc:     `Streams (connections) that one session may have open at once. A reload changes it for new sessions.`,
			example: "4096"},
		{key: "tunnel.resume-timeout", flag: "resume-timeout", arg: "DURATION", to: duration(&s.ResumeTimeout, 0, 24*time.Hour), def: "2m", restart: true,
			help: "how long the streams of a client that lost its link wait for it; 0s: not at all",
			doc: `How long the streams of a client that lost its link wait for the client; then they are reset. "0s" is not at
				all. The client has its own setting, and the shorter time counts.`,
			example: `"10m"`},
		{key: "tunnel.resume-memory", flag: "resume-memory", arg: "SIZE", to: mebibytes(&s.ResumeMemory, 1, 1<<20), def: "256MiB", restart: true,
			help: "memory for all sessions whose client is absent; the oldest is dropped first",
			doc: `Memory that all detached sessions may hold together: data to be sent again, and data that their
				targets have not read yet. The session that has been detached for the longest is dropped first. A number
				without a unit is in MiB.`,
			example: `"1GiB"`},
		{key: "tunnel.stream-memory", flag: "stream-memory", arg: "SIZE", to: mebibytes(&s.StreamMemory, 64, 1<<24), def: "4GiB", restart: true,
			help: "unread data that all connected sessions may have to hold; further streams are refused",
			doc: `Data that clients may have sent and targets have not read, of all connected sessions together. What counts
				is the credit that clients have: 64 KiB for each stream, and more for streams that transfer bulk data. A stream
				for which nothing is left is refused as busy. A number without a unit is in MiB.`,
			example: `"8GiB"`},
		{key: "tunnel.user-stream-memory", flag: "user-stream-memory", arg: "SIZE", to: mebibytes(&s.UserStreamMemory, 16, 1<<24), def: "1GiB", restart: true,
			help: "the same for the sessions of one user",
			doc: `The part of tunnel.stream-memory that the sessions of one user may have, or of all anonymous clients
				together. A number without a unit is in MiB.`,
			example: `"256MiB"`},
		{key: "tunnel.max-connection-age", flag: "max-connection-age", arg: "DURATION", to: duration(&s.MaxConnectionAge, 0, 30*24*time.Hour), def: "0s", restart: true,
			help: "ask clients to move to a new connection before this age; 0s: never",
			doc: `Ask clients to move to a new connection before the present one reaches this age, for proxies that cut every
				connection after a fixed time. "0s" is never.`,
			example: `"55m"`},
		{key: "users", flag: "users", arg: "FILE", to: text(&s.UsersFile, filePath),
			help:    "read [[user]] and [[target]] tables from this file too",
			doc:     `Another file with [[user]] and [[target]] tables, added to those of this file and read again with it.`,
			example: `"/etc/adit/users.toml"`},
		{key: "allow-anonymous", flag: "allow-anonymous", arg: "TARGET", to: list(&s.AllowAnonymous, plain),
			help:    "let clients without credentials reach TARGET, a rule as in a user's allow list",
			doc:     `What clients without credentials may reach: rules as in a user's allow list.`,
			example: `["127.0.0.1:22"]`},
		{key: routeKey, flag: "route", arg: "PATH=BACKEND", to: routeFlag{items[server.Route]{to: &s.Routes}},
			help: "connect plain WebSockets at PATH to BACKEND, HOST:PORT or unix:PATH; ?KEY=VALUE&… adds keys of [[route]]"},
		{key: "trusted-proxies", flag: "trusted-proxy", arg: "NETWORK", to: list(&s.TrustedProxies, ParsePrefix),
			help: "trust X-Forwarded-For and Forwarded from these addresses",
			doc: `Addresses and networks of the proxies in front of this server. Only their X-Forwarded-For and Forwarded are
				trusted: for the log, the audit records, the limits per address and the PROXY protocol, never to
				authenticate. If there are any, a proxy that connects to a unix socket is trusted too.`,
			example: `["127.0.0.1", "10.0.0.0/8"]`},
		{key: "site.root", flag: "site", arg: "DIR|URL", to: siteFlag{text(&s.SiteRoot, filePath), s}, unset: "a small page",
			help: "serve all other requests from the files in DIR, or from the web server at URL",
			doc: `Directory of files. Directories are not listed, of names with a leading dot only .well-known is served, and
				no file that a symbolic link leads to outside the directory.`,
			example: `"/var/www"`},
		{key: "site.proxy", env: "-", to: siteProxy{text(&s.SiteProxy, siteURL), s},
			help:    "the other web server: http://…, https://… or unix:PATH; --site sets it too",
			doc:     `Another web server: http://…, https://… or unix:PATH. --site sets it too.`,
			example: `"http://127.0.0.1:8080"`},
		{key: "demo-page", flag: "demo-page", arg: "PATH", to: text(&s.DemoPage, pagePath),
			help:    "serve a page at PATH to try the routes with, e.g. /console",
			doc:     `URL path of a page to try the routes with. The page is public, and names the routes that have no users.`,
			example: `"/console"`},
		{key: "drain-delay", flag: "drain-delay", arg: "DURATION", to: duration(&s.DrainDelay, 0, 10*time.Minute), def: "0s",
			help: "how long to serve on after SIGTERM while /readyz already fails",
			doc: `How long the server serves on after SIGTERM, while /readyz already says that it stops: the time that a load
				balancer needs to notice. drain-timeout begins after it.`,
			example: `"10s"`},
		{key: "drain-timeout", flag: "drain-timeout", arg: "DURATION", to: duration(&s.DrainTimeout, 0, 24*time.Hour), def: "30s",
			help: "how long live connections may go on after SIGTERM",
			doc: `How long live connections may go on after SIGTERM before they are closed. systemd is asked for that time,
				whatever TimeoutStopSec= is.`,
			example: `"30s"`},
		{key: "audit", flag: "audit", arg: "FILE", to: text(&s.Audit, filePath),
			help: "append a record of every connection to FILE; or stderr, - for standard output, or journal",
			doc: `Destination of the audit records, one JSON object a line for each stream and each connection of a route: a
				file, which is created with mode 0600, appended to, and reopened on SIGHUP; "stderr"; "-" for standard
				output; or "journal". docs/audit.md describes the records, and what happens when they cannot be
				written.`,
			example: `"/var/log/adit/audit.jsonl"`},
	}
	settings = append(settings, s.Log.settings("", true)...)
	settings = append(settings, s.Admin.settings(true)...)
	return append(settings, s.Metrics.settings(true)...)
}

// userSettings are the keys of [[user]].
func userSettings(u *auth.User) []*setting {
	return []*setting{
		{key: "name", to: text(&u.Name, plain), required: true,
			help:    "name in the log, in routes, and in HTTP Basic; no colon",
			example: `"alice"`},
		{key: "token-hash", to: list(&u.TokenHashes, plain), secret: true, unset: "none; cert-name is then required",
			help: "hash of the user's token or password, as adit token prints it, or a list of them",
			doc: `Hash that adit token prints for the server: SHA-256 of a token, bcrypt of a password. It is less secret than a
				token, but need not be public. A list of hashes, ["…", "…"], lets the user log in with each: add the new one,
				replace the token on the clients, then remove the old one. At most 8, of which 2 of passwords.`,
			example: `"sha256:6e303ab0d2ea80f202c773c12975688f7c67a4d5aa031b253cb24801aef51949"`},
		{key: "cert-name", to: text(&u.CertName, plain),
			help:    "name in the user's client certificate; needs tls.client-ca",
			doc:     `Name in the user's client certificate: an e-mail address, a DNS name, a URI or the CN. Needs tls.client-ca.`,
			example: `"alice@example.com"`},
		{key: "allow", to: list(&u.Allow, plain), unset: "nothing; a route must then name the user",
			help: "what the user may reach: rules",
			doc: `What the user may reach: rules of the form HOST:PORTS. HOST is an address, a network, a name, *.suffix or *
				(any address, this machine's too, but no link-local or cloud metadata address). PORTS is 22, 80,443,
				8000-8100 or *; PORTS alone are ports on loopback. Other rules are unix:/PATH, with /* for a directory, and
				the name of a [[target]]. The address that is connected to is checked, not only the name.`,
			example: `["127.0.0.1:22", "10.20.0.0/16:443", "*.lan:80,443", "[2001:db8::/32]:*", "8000-8100", "unix:/run/app.sock", "ssh"]`},
		{key: "max-sessions", to: number(&u.MaxSessions, 1, 1<<16), unset: strconv.Itoa(server.DefaultMaxSessionsPerUser),
			help:    "sessions that the user may have at once",
			example: "8"},
	}
}

// targetSettings are the keys of [[target]].
func targetSettings(t *Target) []*setting {
	return []*setting{
		{key: "name", to: text(&t.Name, targetName), required: true,
			help:    `a letter, then letters, digits, "-" and "_"; at most 64 bytes`,
			example: `"ssh"`},
		{key: "address", to: text(&t.Address, ParseTarget), required: true,
			help:    "HOST:PORT or unix:/PATH",
			doc:     `HOST:PORT or unix:/PATH. A user who may reach the name may reach the address, whatever it is.`,
			example: `"127.0.0.1:22"`},
	}
}

// routeSettings are the keys of [[route]], and those that --route takes. Zero
// values stand for the defaults, which package server has.
func routeSettings(r *server.Route) []*setting {
	const maxConns = 1 << 20
	return []*setting{
		{key: "path", to: text(&r.Path, routePath), required: true,
			help: "URL path, and everything below it",
			doc: `URL path. It also matches everything below it, by whole segments: "/json" matches "/json/a", not "/jsonx". Of
				several routes that match, the longest path wins, then the exact one, then the one with a host.`,
			example: `"/json"`},
		{key: "exact", to: boolean(&r.Exact),
			help:    "match the path alone, nothing below it",
			example: "true"},
		{key: "host", to: text(&r.Host, hostName), unset: "every host",
			help:    "host name of the requests",
			doc:     `Host name of the requests, without port.`,
			example: `"app.example.com"`},
		{key: "backend", to: list(&r.Backends, ParseBackend), required: true,
			help: "HOST:PORT, unix:/PATH or the name of a [[target]]",
			doc: `Backends: HOST:PORT, unix:/PATH or the name of a [[target]]. A connection goes to the backend with the fewest
				connections; one that refuses or does not answer is tried last for a second. Names are resolved for each
				connection.`,
			example: `["127.0.0.1:9000", "127.0.0.1:9001"]`},
		{key: "frame-type", to: choice(&r.FrameType, "frame type", "binary", "text"), unset: `"binary"`,
			help:    "type of the messages to the client",
			doc:     `Type of the messages to the client. Both types are accepted from the client.`,
			example: `"text"`},
		{key: "subprotocols", to: list(&r.Subprotocols, subprotocol), unset: "none",
			help: "subprotocols that the backend speaks",
			doc: `Subprotocols that the backend speaks. The first listed one that a client offers is answered; browsers
				close a WebSocket when none is. "binary" and "base64" are always understood.`,
			example: `["mqtt", "mqttv3.1"]`},
		{key: "origins", to: list(&r.Origins, ParseOrigin), unset: "same host",
			help: "web pages that may connect",
			doc: `Origins of the web pages that may connect: https://HOST[:PORT] or https://*.DOMAIN. By default only pages of
				the host that the request is for. Apps and files have origins such as capacitor://localhost, app://. and
				file://. "null" is that of many files, but also of any page that hides its own.`,
			example: `["https://app.example.com", "https://*.example.com"]`},
		{key: "users", to: list(&r.Users, plain), unset: "everyone",
			help:    "users who may connect",
			doc:     `Names of the users who may connect; they need no allow list for it. The log warns of a route without users.`,
			example: `["alice"]`},
		{key: "ping-interval", to: durationOrNever(&r.PingInterval, time.Second, time.Hour, -1), unset: quoted(short(server.DefaultPingInterval)),
			help:    "silence after which the client is pinged",
			example: `"30s"`},
		{key: "pong-timeout", to: durationOrNever(&r.PongTimeout, time.Second, time.Hour, -1), unset: quoted(short(server.DefaultPongTimeout)),
			help:    "further silence that ends the connection",
			doc:     `Silence after a ping that ends the connection.`,
			example: `"30s"`},
		{key: "idle-timeout", to: durationOrNever(&r.IdleTimeout, time.Second, 30*24*time.Hour, 0), unset: `"0s"`,
			help:    "longest time without payload",
			doc:     `Time without payload in either direction that ends the connection.`,
			example: `"10m"`},
		{key: "connect-timeout", to: duration(&r.ConnectTimeout, 100*time.Millisecond, 5*time.Minute), unset: quoted(short(server.DefaultConnectTimeout)),
			help:    "time to resolve and connect to a backend",
			doc:     `Time to resolve names and to connect, for all backends together.`,
			example: `"8s"`},
		{key: "linger-timeout", to: duration(&r.LingerTimeout, 100*time.Millisecond, time.Hour), unset: quoted(short(server.DefaultLingerTimeout)),
			help:    "time to finish after the client closes",
			doc:     `Time for the backend to read the rest of the client's data and to end, after the client has closed.`,
			example: `"10s"`},
		{key: "max-conns", to: numberOrNone(&r.MaxConns, 1, maxConns, -1), unset: strconv.Itoa(server.DefaultMaxRouteConns),
			help:    "connections at once",
			doc:     `Connections at once; one more is answered with 503.`,
			example: "1000"},
		{key: "max-conns-per-address", to: numberOrNone(&r.MaxConnsPerAddress, 1, maxConns, 0), unset: "0",
			help:    "connections at once of one client address",
			doc:     `Connections at once of one client address (IPv6: one /64).`,
			example: "20"},
		{key: "proxy-protocol", to: choice(&r.ProxyProtocol, "PROXY protocol", "off", "v1", "v2"), unset: `"off"`,
			help:    "PROXY protocol header",
			doc:     `PROXY protocol header that tells the backend the client's address.`,
			example: `"v2"`},
	}
}

// siteFlag is site.root, and --site, which may name another web server too.
type siteFlag struct {
	value
	s *Server
}

func (v siteFlag) clear() { v.s.SiteRoot, v.s.SiteProxy = "", "" }

func (v siteFlag) set(text string) (err error) {
	if isSiteURL(text) {
		v.s.SiteProxy, err = siteURL(text)
		return err
	}
	return v.value.set(text)
}

// siteProxy is site.proxy, which replaces a root.
type siteProxy struct {
	value
	s *Server
}

func (v siteProxy) set(text string) error {
	err := v.value.set(text)
	if err == nil {
		v.s.SiteRoot = ""
	}
	return err
}
