//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
)

func startStunnel(s *stage) (string, error) {
	listen, connect, local, err := s.addresses()
	if err != nil {
		return "", err
	}
	const general = `foreground = yes
pid =
syslog = no
debug = err
[tunnel]
sslVersionMin = TLSv1.3
ciphersuites = TLS_AES_128_GCM_SHA256
`
	server, err := s.file("server.conf", general+"accept = %s\nconnect = %s\ncert = %s\nkey = %s\n",
		listen, s.target.addr, s.certs.cert, s.certs.key)
	if err != nil {
		return "", err
	}
	client, err := s.file("client.conf", general+"client = yes\naccept = %s\nconnect = %s\nCAfile = %s\nverifyChain = yes\n",
		local, connect, s.certs.ca)
	if err != nil {
		return "", err
	}
	return local, errors.Join(s.runServer(nil, "stunnel", server), s.runClient(nil, "stunnel", client))
}

func startSSH(s *stage) (string, error) {
	listen, connect, local, err := s.addresses()
	if err != nil {
		return "", err
	}
	for _, key := range []string{"host", "user"} {
		keygen, err := lookPath("ssh-keygen")
		if err != nil {
			return "", err
		}
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, key)).CombinedOutput(); err != nil {
			return "", fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	me, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find the current user: %w", err)
	}
	if me.Uid == "0" {
		// sshd drops its privileges in this directory, which must be empty.
		const empty = "/run/sshd"
		switch err := os.Mkdir(empty, 0o755); {
		case err == nil:
			s.madeDir = empty
		case !errors.Is(err, os.ErrExist):
			return "", fmt.Errorf("make the directory that sshd needs: %w", err)
		}
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	config, err := s.file("sshd_config", `ListenAddress %s
Port %s
HostKey %s
AuthorizedKeysFile %s
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
LogLevel ERROR
AllowTcpForwarding yes
Ciphers %s
`, host, port, filepath.Join(s.dir, "host"), filepath.Join(s.dir, "user.pub"), sshCipher)
	if err != nil {
		return "", err
	}
	sshd, err := lookPath("sshd")
	if err != nil {
		return "", err
	}
	if err := s.runServer(nil, sshd, "-D", "-e", "-f", config); err != nil {
		return "", err
	}
	if err := s.accepts(listen); err != nil { // ssh does not retry
		return "", err
	}
	host, port, err = net.SplitHostPort(connect)
	if err != nil {
		return "", err
	}
	return local, s.runClient(nil, "ssh", "-F", "none", "-N", "-T", "-p", port, "-i", filepath.Join(s.dir, "user"),
		"-c", sshCipher, "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile="+filepath.Join(s.dir, "known_hosts"),
		"-L", local+":"+s.target.addr, me.Username+"@"+host)
}

const sshCipher = "aes128-gcm@openssh.com"

func startChisel(s *stage) (string, error) {
	listen, connect, local, err := s.addresses()
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	const login = "AUTH=bench:bench"
	return local, errors.Join(
		s.runServer([]string{login}, "chisel", "server", "--host", host, "--port", port, "--tls-cert", s.certs.cert, "--tls-key", s.certs.key),
		s.runClient([]string{login}, "chisel", "client", "--tls-ca", s.certs.ca, "--max-retry-interval", "100ms",
			"https://"+connect, local+":"+s.target.addr))
}

func startWstunnel(s *stage) (string, error) {
	listen, connect, local, err := s.addresses()
	if err != nil {
		return "", err
	}
	quiet := []string{"RUST_LOG=ERROR", "NO_COLOR=true"}
	return local, errors.Join(
		s.runServer(quiet, "wstunnel", "server", "--tls-certificate", s.certs.cert, "--tls-private-key", s.certs.key, "wss://"+listen),
		s.runClient(quiet, "wstunnel", "client", "-L", "tcp://"+local+":"+s.target.addr, "wss://"+connect))
}

func startGost(s *stage) (string, error) {
	listen, connect, local, err := s.addresses()
	if err != nil {
		return "", err
	}
	quiet := []string{"GOST_LOGGER_LEVEL=error"}
	return local, errors.Join(
		s.runServer(quiet, "gost", "-L", fmt.Sprintf("relay+mwss://%s?certFile=%s&keyFile=%s", listen, s.certs.cert, s.certs.key)),
		s.runClient(quiet, "gost", "-L", fmt.Sprintf("tcp://%s/%s", local, s.target.addr),
			"-F", fmt.Sprintf("relay+mwss://%s?secure=true&caFile=%s", connect, s.certs.ca)))
}

// startFrp runs frp's server on the client's host, because applications connect to frp's server.
func startFrp(s *stage) (string, error) {
	listen, err := s.client.freePort(s.client.ip)
	if err != nil {
		return "", err
	}
	connect, err := s.across(s.server, listen)
	if err != nil {
		return "", err
	}
	local, err := s.client.freePort("127.0.0.1")
	if err != nil {
		return "", err
	}
	bindHost, bindPort, _ := net.SplitHostPort(listen)
	serverHost, serverPort, _ := net.SplitHostPort(connect)
	targetHost, targetPort, _ := net.SplitHostPort(s.target.addr)
	_, localPort, _ := net.SplitHostPort(local)
	frps, err := s.file("frps.toml", `bindAddr = %q
bindPort = %s
proxyBindAddr = "127.0.0.1"
log.level = "error"
auth.token = "bench"
transport.tls.force = true
transport.tls.certFile = %q
transport.tls.keyFile = %q
`, bindHost, bindPort, s.certs.cert, s.certs.key)
	if err != nil {
		return "", err
	}
	frpc, err := s.file("frpc.toml", `serverAddr = %q
serverPort = %s
loginFailExit = false
log.level = "error"
auth.token = "bench"
transport.tls.trustedCaFile = %q
[[proxies]]
name = "bench"
type = "tcp"
localIP = %q
localPort = %s
remotePort = %s
`, serverHost, serverPort, s.certs.ca, targetHost, targetPort, localPort)
	if err != nil {
		return "", err
	}
	if err := s.runClient(nil, "frps", "-c", frps); err != nil {
		return "", err
	}
	if err := s.accepts(listen); err != nil { // frpc waits long before it retries
		return "", err
	}
	return local, s.runServer(nil, "frpc", "-c", frpc)
}
