//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A peer is a program that carries connections, and how to run it.
type peer struct {
	name     string
	about    string       // for the report: what it does
	programs []string     // all must be there
	version  []string     // a command that prints it
	route    bool         // a gateway from WebSockets to TCP instead of a tunnel
	most     int          // idle connections that it bears in one process, 0 for no limit known
	unless   func() error // why it cannot be run, beyond missing programs

	// start starts the peer on the stage and returns where applications connect.
	start func(*stage) (string, error)
}

// Names that the plan refers to.
const (
	nameAdit       = "adit"
	nameNoResume   = "adit, resumption off"
	nameDirect     = "no tunnel"
	nameStunnel    = "stunnel"
	nameSSH        = "ssh"
	nameChisel     = "chisel"
	nameWstunnel   = "wstunnel"
	nameGost       = "gost"
	nameFrp        = "frp"
	nameAditRoute  = "adit route"
	nameLighttpd   = "lighttpd"
	nameWebsockify = "websockify"
)

// twoEach is for programs that need two descriptors, or a thread, for a connection on one side.
const twoEach = 9000

// allPeers returns every peer that could take part. adit is the path of the binary.
func allPeers(adit string) []*peer {
	aditVersion := []string{adit, "version"}
	return []*peer{
		{
			name: nameDirect, about: "what the load generator itself does over the same path",
			start: func(s *stage) (string, error) { return s.across(s.near, s.target.addr) },
		},
		{
			name: nameAdit, about: "all streams in one WebSocket over TLS; a user with a token and a policy, metrics",
			programs: []string{adit}, version: aditVersion, start: aditTunnel{adit, ""}.start,
		},
		{
			name: nameNoResume, about: "the same with `resume-timeout = \"0s\"`",
			programs: []string{adit}, version: aditVersion,
			start:  aditTunnel{adit, resumeOff}.start,
			unless: func() error { return aditKnows(adit, resumeOff) },
		},
		{
			name: nameStunnel, about: "TLS only, a TLS connection for every stream",
			programs: []string{"stunnel"}, version: []string{"stunnel", "-version"}, most: twoEach, start: startStunnel,
		},
		{
			name: nameSSH, about: "`ssh -L` with aes128-gcm@openssh.com",
			programs: []string{"sshd", "ssh", "ssh-keygen"}, version: []string{"ssh", "-V"}, most: twoEach, start: startSSH,
		},
		{
			name: nameChisel, about: "SSH over one WebSocket over TLS",
			programs: []string{"chisel"}, version: []string{"chisel", "--version"}, start: startChisel,
		},
		{
			name: nameWstunnel, about: "a WebSocket over TLS for every stream",
			programs: []string{"wstunnel"}, version: []string{"wstunnel", "--version"}, most: twoEach, start: startWstunnel,
		},
		{
			name: nameGost, about: "relay over mwss, all streams in one WebSocket over TLS",
			programs: []string{"gost"}, version: []string{"gost", "-V"}, start: startGost,
		},
		{
			name: nameFrp, about: "a TCP proxy over TLS with tcpMux; its server is at the applications' end",
			programs: []string{"frps", "frpc"}, version: []string{"frps", "--version"}, start: startFrp,
		},
		{
			name: nameAditRoute, about: "a route without users", route: true,
			programs: []string{adit}, version: aditVersion,
			start: func(s *stage) (string, error) { return startAditRoute(s, adit) },
		},
		{
			name: nameLighttpd, about: "mod_wstunnel, binary frames", route: true,
			programs: []string{"lighttpd"}, version: []string{"lighttpd", "-v"}, start: startLighttpd,
		},
		{
			name: nameWebsockify, about: "a process for every connection", route: true,
			programs: []string{"websockify"}, version: []string{"dpkg-query", "-W", "websockify"}, start: startWebsockify,
		},
	}
}

// absent says why the peer cannot take part, or nil.
func (p *peer) absent() error {
	for _, name := range p.programs {
		if _, err := lookPath(name); err != nil {
			return fmt.Errorf("%s is not on PATH", name)
		}
	}
	if p.unless != nil {
		return p.unless()
	}
	return nil
}

var versionNumber = regexp.MustCompile(`v?\d+\.\d+[\w.+-]*`)

// versionOf returns the peer's version, as it says it.
func (p *peer) versionOf(ctx context.Context) string {
	if p.version == nil {
		return ""
	}
	path, err := lookPath(p.version[0])
	if err != nil {
		return "unknown"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, p.version[1:]...).CombinedOutput() // some exit with 1
	if strings.HasPrefix(p.name, nameAdit) {                                    // it may be no number, of what is not released
		return strings.TrimSpace(string(out))
	}
	if v := versionNumber.Find(out); v != nil {
		return string(v)
	}
	first, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(first)
}

// resumeOff is the setting of adit that switches resumption off.
const resumeOff = `resume-timeout = "0s"`

// aditKnows says whether this adit knows a setting.
func aditKnows(adit, setting string) error {
	dir, err := os.MkdirTemp("", "adit-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "client.toml")
	conf := setting + "\nserver = [\"wss://127.0.0.1\"]\nforward = [\"1:127.0.0.1:1\"]\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return err
	}
	out, err := exec.Command(adit, "client", "--check-config", "--config", file).CombinedOutput()
	if err != nil && bytes.Contains(out, []byte("resume-timeout")) {
		return errors.New("this adit has no such setting")
	}
	return nil
}

// An aditTunnel is adit with a setting, of the client and of the server's [tunnel].
type aditTunnel struct{ binary, setting string }

func (a aditTunnel) start(s *stage) (string, error) {
	listen, connect, local, err := s.ends()
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
		s.farRuns(nil, a.binary, "server", "--config", server),
		s.nearRuns(nil, a.binary, "client", "--config", client),
	)
}

func startAditRoute(s *stage, binary string) (string, error) {
	listen, _, _, err := s.ends()
	if err != nil {
		return "", err
	}
	s.route = routePath
	argv := []string{binary, "server", "--listen", listen, "--log-level", "warn", "--route", routePath + "=" + s.target.addr}
	if s.tls {
		argv = append(argv, "--tls-cert", s.certs.cert, "--tls-key", s.certs.key)
	} else {
		argv = append(argv, "--no-tls")
	}
	return listen, s.farRuns(nil, argv...)
}

const routePath = "/bench"

func startStunnel(s *stage) (string, error) {
	listen, connect, local, err := s.ends()
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
	return local, errors.Join(s.farRuns(nil, "stunnel", server), s.nearRuns(nil, "stunnel", client))
}

func startSSH(s *stage) (string, error) {
	listen, connect, local, err := s.ends()
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
		return "", fmt.Errorf("find out who runs this: %w", err)
	}
	if me.Uid == "0" {
		// sshd gives up its rights in this directory, which is empty and stays so.
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
	if err := s.farRuns(nil, sshd, "-D", "-e", "-f", config); err != nil {
		return "", err
	}
	if err := s.accepts(listen); err != nil { // ssh does not try again
		return "", err
	}
	host, port, err = net.SplitHostPort(connect)
	if err != nil {
		return "", err
	}
	return local, s.nearRuns(nil, "ssh", "-F", "none", "-N", "-T", "-p", port, "-i", filepath.Join(s.dir, "user"),
		"-c", sshCipher, "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile="+filepath.Join(s.dir, "known_hosts"),
		"-L", local+":"+s.target.addr, me.Username+"@"+host)
}

const sshCipher = "aes128-gcm@openssh.com"

func startChisel(s *stage) (string, error) {
	listen, connect, local, err := s.ends()
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	const login = "AUTH=bench:bench"
	return local, errors.Join(
		s.farRuns([]string{login}, "chisel", "server", "--host", host, "--port", port, "--tls-cert", s.certs.cert, "--tls-key", s.certs.key),
		s.nearRuns([]string{login}, "chisel", "client", "--tls-ca", s.certs.ca, "--max-retry-interval", "100ms",
			"https://"+connect, local+":"+s.target.addr))
}

func startWstunnel(s *stage) (string, error) {
	listen, connect, local, err := s.ends()
	if err != nil {
		return "", err
	}
	quiet := []string{"RUST_LOG=ERROR", "NO_COLOR=true"}
	return local, errors.Join(
		s.farRuns(quiet, "wstunnel", "server", "--tls-certificate", s.certs.cert, "--tls-private-key", s.certs.key, "wss://"+listen),
		s.nearRuns(quiet, "wstunnel", "client", "-L", "tcp://"+local+":"+s.target.addr, "wss://"+connect))
}

func startGost(s *stage) (string, error) {
	listen, connect, local, err := s.ends()
	if err != nil {
		return "", err
	}
	quiet := []string{"GOST_LOGGER_LEVEL=error"}
	return local, errors.Join(
		s.farRuns(quiet, "gost", "-L", fmt.Sprintf("relay+mwss://%s?certFile=%s&keyFile=%s", listen, s.certs.cert, s.certs.key)),
		s.nearRuns(quiet, "gost", "-L", fmt.Sprintf("tcp://%s/%s", local, s.target.addr),
			"-F", fmt.Sprintf("relay+mwss://%s?secure=true&caFile=%s", connect, s.certs.ca)))
}

// startFrp has frp's server at the near end: it is where applications connect.
func startFrp(s *stage) (string, error) {
	listen, err := s.near.freePort(s.near.ip)
	if err != nil {
		return "", err
	}
	connect, err := s.across(s.far, listen)
	if err != nil {
		return "", err
	}
	local, err := s.near.freePort("127.0.0.1")
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
	if err := s.nearRuns(nil, "frps", "-c", frps); err != nil {
		return "", err
	}
	if err := s.accepts(listen); err != nil { // frpc waits long before it tries again
		return "", err
	}
	return local, s.farRuns(nil, "frpc", "-c", frpc)
}

func startLighttpd(s *stage) (string, error) {
	listen, _, _, err := s.ends()
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(listen)
	targetHost, targetPort, _ := net.SplitHostPort(s.target.addr)
	modules, tls := `"mod_wstunnel"`, ""
	if s.tls {
		modules = `"mod_openssl", ` + modules
		tls = fmt.Sprintf("ssl.engine = \"enable\"\nssl.pemfile = %q\nssl.openssl.ssl-conf-cmd = (\"MinProtocol\" => \"TLSv1.3\")\n", s.certs.both)
	}
	config, err := s.file("lighttpd.conf", `server.modules = (%s)
server.document-root = %q
server.bind = %q
server.port = %s
%swstunnel.server = (%q => (("host" => %q, "port" => %s)))
wstunnel.frame-type = "binary"
`, modules, s.dir, host, port, tls, routePath, targetHost, targetPort)
	if err != nil {
		return "", err
	}
	s.route = routePath
	return listen, s.farRuns(nil, "lighttpd", "-D", "-f", config)
}

func startWebsockify(s *stage) (string, error) {
	listen, _, _, err := s.ends()
	if err != nil {
		return "", err
	}
	s.route = routePath
	argv := []string{"websockify"}
	if s.tls {
		argv = append(argv, "--ssl-only", "--cert", s.certs.cert, "--key", s.certs.key)
	}
	return listen, s.farRuns(nil, append(argv, listen, s.target.addr)...)
}
