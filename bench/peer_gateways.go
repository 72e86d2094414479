//go:build linux

package main

import (
	"fmt"
	"net"
)

func startAditRoute(s *stage, binary string) (string, error) {
	listen, _, _, err := s.addresses()
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
	return listen, s.runServer(nil, argv...)
}

const routePath = "/bench"

func startLighttpd(s *stage) (string, error) {
	listen, _, _, err := s.addresses()
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
	return listen, s.runServer(nil, "lighttpd", "-D", "-f", config)
}

func startWebsockify(s *stage) (string, error) {
	listen, _, _, err := s.addresses()
	if err != nil {
		return "", err
	}
	s.route = routePath
	argv := []string{"websockify"}
	if s.tls {
		argv = append(argv, "--ssl-only", "--cert", s.certs.cert, "--key", s.certs.key)
	}
	return listen, s.runServer(nil, append(argv, listen, s.target.addr)...)
}
