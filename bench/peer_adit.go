//go:build linux

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
)

// aditPeer returns an adit tunnel with a setting, which client and server both get.
func aditPeer(name, about, binary, setting string) *peer {
	return &peer{
		name: name, about: about, adit: true, programs: []string{binary}, version: []string{binary, "version"},
		start: aditTunnel{binary, setting}.start,
	}
}

type aditTunnel struct{ binary, setting string }

func (a aditTunnel) start(s *stage) (string, error) {
	listen, connect, local, err := s.addresses()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(a.binary, "token", "bench").Output()
	if err != nil {
		return "", fmt.Errorf("adit token: %w", err)
	}
	secret := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^([\w-]+) = "([^"]+)"$`).FindAllStringSubmatch(string(out), -1) {
		secret[m[1]] = m[2]
	}
	server, err := s.file("server.toml", `listen = [%q]
log-level = "warn"
[tls]
cert = %q
key = %q
[tunnel]
max-streams = 20000
%s
[[user]]
name = "bench"
token-hash = %q
allow = [%q]
[admin]
listen = "unix:%s/server.sock"
`, listen, s.certs.cert, s.certs.key, a.setting, secret["token-hash"], s.target.addr, s.dir)
	if err != nil {
		return "", err
	}
	token, err := s.file("token", "%s\n", secret["token"])
	if err != nil {
		return "", err
	}
	client, err := s.file("client.toml", `%s
server = ["wss://%s/tunnel"]
token-file = %q
forward = ["%s:%s"]
proxy = "none"
log-level = "warn"
[tls]
ca = %q
[admin]
listen = "unix:%s/client.sock"
`, a.setting, connect, token, local, s.target.addr, s.certs.ca, s.dir)
	if err != nil {
		return "", err
	}
	return local, errors.Join(
		s.runServer(nil, a.binary, "server", "--config", server),
		s.runClient(nil, a.binary, "client", "--config", client),
	)
}
