package clientd

import (
	"fmt"
	"net/url"
	"strings"

	"adit/internal/config"
	"adit/tunnel"
)

// Warnings returns what is dangerous or without effect in a configuration, for the
// log at every start. getenv is os.Getenv.
func Warnings(c *config.Client, getenv func(string) string) []string {
	var list []string
	if c.TLS.InsecureSkipVerify {
		list = append(list, "the server is not verified (--insecure-skip-verify): anyone in between can read and change all data and take the token; use --pin or --ca")
	}
	if c.TokenFile != "" && config.ReadableByOthers(c.TokenFile) {
		list = append(list, "every user of this machine can read the token file: chmod 600 "+c.TokenFile)
	}
	if u, err := url.Parse(c.Proxy); err == nil && u.User != nil && c.File != "" && strings.HasPrefix(c.Origin("proxy"), c.File) && config.ReadableByOthers(c.File) {
		list = append(list, "every user of this machine can read the proxy's password: chmod 600 "+c.File)
	}
	if c.Proxy == "" {
		for _, entry := range badNoProxy(proxyVariable(getenv, "NO_PROXY")) {
			list = append(list, fmt.Sprintf("NO_PROXY has %q, which is not a network: it has no effect", entry))
		}
	}
	for _, s := range c.Servers {
		u, err := url.Parse(s)
		if err == nil && u.Scheme == "ws" && !tunnel.Local(u.Hostname()) {
			list = append(list, "the connection to "+s+" is not encrypted: use wss://")
		}
	}
	return list
}
