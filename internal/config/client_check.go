package config

import (
	"net/url"
	"strings"
)

// check reports faults between values.
func (c *Client) check(l *loader, needWork bool) {
	if len(c.Servers) == 0 && !l.faulty("server") {
		l.faults.Add("server", bad("name one, e.g. adit client -L 2222:ssh wss://gw.example.com/tunnel, or server = [\"wss://…\"] in the file", "no server is named"))
	}
	c.checkWork(l, needWork)
	c.checkSecret(l)
	t := &c.TLS
	if t.Cert != "" && t.Key == "" && !l.faulty("tls.key") {
		l.report("tls.cert", "add --key FILE, or key = \"…\" below [tls]", "has no private key")
	}
	if t.Key != "" && t.Cert == "" && !l.faulty("tls.cert") {
		l.report("tls.key", "add --cert FILE, or cert = \"…\" below [tls]", "has no certificate")
	}
	c.checkPlain(l)
	c.checkProxy(l)
	c.checkImplied(l)
	if strings.HasPrefix(c.ConnectTo, "unix:") && c.Proxy != "" && c.Proxy != "none" {
		l.report("connect-to", "leave out one of the two", "no proxy leads to a unix socket, and %s names one", l.origin("proxy"))
	}
	if t.InsecureSkipVerify && (t.CA != "" || len(t.Pins) > 0) {
		l.report("tls.insecure-skip-verify", "leave it out: a pin or a CA is enough for a self-signed server", "contradicts the pin or CA that is also given")
	}
}

// checkProxy refuses a password on the command line.
func (c *Client) checkProxy(l *loader) {
	if l.origins["proxy"] != "--proxy" {
		return
	}
	if u, err := url.Parse(c.Proxy); err == nil && u.User != nil {
		if _, has := u.User.Password(); has {
			l.report("proxy", `put the URL into the variable HTTPS_PROXY or ADIT_PROXY, or as proxy = "…" into a configuration file that only you can read`,
				"%q would show a password to other users of this machine", Redact(c.Proxy))
		}
	}
}

// checkImplied refuses to send the secrets of a default file to a server that
// the file does not name: the user may not know that there is one.
func (c *Client) checkImplied(l *loader) {
	host := func(server string) string {
		u, err := url.Parse(server)
		if err != nil {
			return server
		}
		return strings.ToLower(u.Hostname())
	}
	known := map[string]bool{}
	for _, s := range l.implied {
		known[host(s)] = true
	}
	for _, s := range c.Servers {
		if len(known) == 0 || known[host(s)] {
			continue
		}
		for _, key := range []string{"token-file", "header"} {
			if strings.HasPrefix(l.origins[key], c.File) {
				l.report(key, "name the file with --config if "+s+" may have it; --config /dev/null is no file", "is for the servers of that file, not for %s", s)
			}
		}
		return
	}
}

// checkPlain refuses TLS settings when no server's URL is wss: they show that
// the user expects encryption.
func (c *Client) checkPlain(l *loader) {
	for _, u := range c.Servers {
		if strings.HasPrefix(u, "wss:") {
			return
		}
	}
	for _, key := range []string{"tls.ca", "tls.pin", "tls.cert", "tls.server-name"} {
		if l.isSet(key) && len(c.Servers) > 0 {
			l.report(key, "write wss:// instead of ws://", "has no effect: %s is not encrypted", c.Servers[0])
		}
	}
}

// checkWork checks what the client is to forward.
func (c *Client) checkWork(l *loader, needWork bool) {
	if !c.Stdio.IsZero() {
		// As with ssh -W, the forwards of a file that another client uses too
		// are ignored; -W with -L is a mistake.
		if l.origins["forward"] == "--forward" {
			l.faults.Add("--stdio", bad("use -W HOST:PORT or -L, one at a time", "-W and -L exclude each other"))
		}
		c.Forwards = nil
		return
	}
	// What is not the URL of a server may have been meant as a forward.
	if needWork && len(c.Forwards) == 0 && !l.faulty("forward") && !l.faulty("stdio") && !l.faulty("server") && !l.later {
		l.faults.Add("forward", bad("name a target, e.g. adit client -L 5432:db.lan:5432 wss://gw.example.com/tunnel; -L 2222:ssh for a target the server names; -W HOST:PORT for ssh's ProxyCommand", "there is nothing to forward"))
	}
	seen := map[Address]int{}
	for i, f := range c.Forwards {
		host, port := f.Listen.hostPort()
		if port == "0" {
			continue // the system picks a free port for each
		}
		addresses := []Address{f.Listen}
		if strings.EqualFold(host, "localhost") {
			addresses = []Address{{"tcp", "127.0.0.1:" + port}, {"tcp", "[::1]:" + port}}
		}
		for _, a := range addresses {
			if first, dup := seen[a]; dup && first != i {
				l.report(itemID("forward", i), "give each forward its own port", "forward %q listens on the same address as %q", f, c.Forwards[first])
				break
			}
			seen[a] = i
		}
	}
}

// checkSecret applies the precedence between the token and its file.
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
		l.report("user", "add --token-file FILE with the password, or set ADIT_TOKEN to it", "user %q has no password", c.User)
	}
}
