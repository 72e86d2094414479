package config

import "strings"

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
		if l.isSet(key) && len(c.Servers) > 0 {
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
