//go:build linux

package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// The account at every upstream proxy. Its password must be escaped in a URL.
const (
	proxyUser     = "carol"
	proxyPassword = "p@ss:w/rd"
)

var proxyUserinfo = proxyUser + ":" + strings.NewReplacer("@", "%40", ":", "%3A", "/", "%2F").Replace(proxyPassword)

// squid runs squid in the middle: CONNECT to port 443 only, with Basic authentication. It returns
// the proxy's URL.
func squid(t *testing.T, l *line) string {
	t.Helper()
	_, url := runSquid(t, l)
	return url
}

func runSquid(t *testing.T, l *line) (p *process, url string) {
	t.Helper()
	need(t, "squid", "basic_ncsa_auth")
	dir := workDir(t)
	hash, err := bcrypt.GenerateFromPassword([]byte(proxyPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	passwords := writeFile(t, dir, "passwords", proxyUser+":"+string(hash)+"\n")
	conf := writeFile(t, dir, "squid.conf", fmt.Sprintf(`http_port %s:3128
auth_param basic program %s %s
auth_param basic children 2 startup=1
acl tls port 443
acl known proxy_auth REQUIRED
http_access deny !CONNECT
http_access deny !tls
http_access allow known
http_access deny all
hosts_file /etc/hosts
dns_nameservers 127.0.0.1
visible_hostname proxy.test
cache deny all
cache_mem 0
memory_pools off
access_log none
cache_store_log none
cache_log stdio:/dev/stderr
logfile_rotate 0
coredump_dir %s
pid_filename none
pinger_enable off
shutdown_lifetime 0
max_filedescriptors 4096
`, middleAddr, program(t, "basic_ncsa_auth"), passwords, dir))
	// squid has shared memory under /run, named by -n.
	p = l.middle.start(t, "squid", spec{argv: []string{"squid", "-N", "-n", "adite2e", "-f", conf}})
	p.awaitPort(t, l.middle, middleAddr+":3128")

	// Check that the proxy behaves as the scenario requires.
	credentials := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword)) + "\r\n"
	for _, probe := range []struct {
		request string
		want    int
	}{
		{"CONNECT " + gatewayName + ":443 HTTP/1.1\r\nHost: " + gatewayName + ":443\r\n", http.StatusProxyAuthRequired},
		{"CONNECT " + gatewayName + ":8443 HTTP/1.1\r\nHost: " + gatewayName + ":8443\r\n" + credentials, http.StatusForbidden},
		{"CONNECT " + gatewayAddr + ":22 HTTP/1.1\r\nHost: " + gatewayAddr + ":22\r\n" + credentials, http.StatusForbidden},
		{"GET http://" + gatewayName + ":443/ HTTP/1.1\r\nHost: " + gatewayName + "\r\n" + credentials, http.StatusForbidden},
		{"CONNECT " + gatewayName + ":443 HTTP/1.1\r\nHost: " + gatewayName + ":443\r\n" + credentials, http.StatusOK},
	} {
		conn, err := l.client.dial(middleAddr + ":3128")
		if err != nil {
			t.Fatalf("reach squid: %v", err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "%s\r\n", probe.request)
		reply, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
		conn.Close()
		if err != nil {
			t.Fatalf("squid's answer to %q: %v", probe.request, err)
		}
		if reply.StatusCode != probe.want {
			t.Fatalf("squid answered %q with %s, want %d", probe.request, reply.Status, probe.want)
		}
	}
	return p, "http://" + proxyUserinfo + "@" + middleAddr + ":3128"
}

// socks runs a SOCKS5 server with password authentication in the middle and returns the proxy's
// URL. The scheme socks5h makes the proxy resolve the gateway's name.
func socks(t *testing.T, l *line) string {
	t.Helper()
	need(t, "microsocks")
	p := l.middle.start(t, "microsocks", spec{argv: []string{"microsocks", "-i", middleAddr, "-p", "1080", "-u", proxyUser, "-P", proxyPassword}})
	p.awaitPort(t, l.middle, middleAddr+":1080")
	conn, err := l.client.dial(middleAddr + ":1080")
	if err != nil {
		t.Fatalf("reach the SOCKS server: %v", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	// Version 5; one method: no authentication.
	conn.Write([]byte{5, 1, 0})
	var reply [2]byte
	if _, err := conn.Read(reply[:]); err != nil || reply != [2]byte{5, 0xff} {
		t.Fatalf("the SOCKS server accepts a client without a password: %x, %v", reply, err)
	}
	return "socks5h://" + proxyUserinfo + "@" + net.JoinHostPort(middleAddr, "1080")
}

// A front is a reverse proxy before the server: it terminates TLS on the gateway's port 443 and
// forwards requests to backend, a plain HTTP address.
type front func(t *testing.T, gateway *host, pair keyPair, backend string)

func nginxFront(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	runNginx(t, gateway, pair, backend, "master_process off;")
}

// runNginx runs nginxFront with additional lines at the top of its configuration.
func runNginx(t *testing.T, gateway *host, pair keyPair, backend, top string) *process {
	t.Helper()
	need(t, "nginx")
	dir := workDir(t)
	conf := writeFile(t, dir, "nginx.conf", fmt.Sprintf(`daemon off;
%[6]s
error_log stderr warn;
pid %[1]s/pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s:443 ssl;
		ssl_certificate %[3]s;
		ssl_certificate_key %[4]s;
		location / {
			proxy_pass http://%[5]s;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header Forwarded "";
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
		}
	}
}
`, dir, gatewayAddr, pair.cert, pair.key, backend, top))
	p := gateway.start(t, "nginx", spec{argv: []string{"nginx", "-p", dir, "-e", "stderr", "-c", conf}})
	p.awaitPort(t, gateway, gatewayAddr+":443")
	return p
}

// haproxyDefaults is the beginning of every haproxy configuration.
const haproxyDefaults = `global
	log stderr format raw local0 notice
	maxconn 1000
defaults
	mode http
	log global
	timeout connect 5s
	timeout client 50s
	timeout server 50s
	timeout tunnel 1h
	option forwardfor
`

func haproxyFront(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	need(t, "haproxy")
	dir := workDir(t)
	both := writeFile(t, dir, "pair.pem", readFile(t, pair.cert)+readFile(t, pair.key))
	conf := writeFile(t, dir, "haproxy.cfg", haproxyDefaults+fmt.Sprintf(`frontend public
	bind %s:443 ssl crt %s alpn http/1.1
	http-request del-header Forwarded
	default_backend adit
backend adit
	server adit %s
`, gatewayAddr, both, backend))
	gateway.start(t, "haproxy", spec{argv: []string{"haproxy", "-db", "-f", conf}}).
		awaitPort(t, gateway, gatewayAddr+":443")
}

// apacheFront forwards WebSockets with mod_proxy_http, as Apache recommends since 2.4.47.
func apacheFront(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	apache(t, gateway, pair, fmt.Sprintf("ProxyPass / http://%s/ upgrade=websocket\n", backend))
}

// apacheWstunnelFront forwards WebSockets with mod_proxy_wstunnel, as most installations do.
func apacheWstunnelFront(t *testing.T, gateway *host, pair keyPair, backend string) {
	t.Helper()
	apache(t, gateway, pair, fmt.Sprintf("ProxyPass %[2]s ws://%[1]s%[2]s\nProxyPass / http://%[1]s/\n", backend, tunnelPath))
}

func apache(t *testing.T, gateway *host, pair keyPair, proxyPass string) {
	t.Helper()
	need(t, "apache2")
	dir := workDir(t)
	modules := "/usr/lib/apache2/modules"
	var load strings.Builder
	for _, m := range []string{"mpm_event", "authz_core", "socache_shmcb", "ssl", "headers", "proxy", "proxy_http", "proxy_wstunnel"} {
		fmt.Fprintf(&load, "LoadModule %s_module %s\n", m, filepath.Join(modules, "mod_"+m+".so"))
	}
	conf := writeFile(t, dir, "httpd.conf", fmt.Sprintf(`%[1]sServerRoot %[2]s
DefaultRuntimeDir %[2]s
PidFile %[2]s/pid
ServerName %[3]s
User nobody
Group nogroup
ErrorLog /dev/stderr
LogLevel warn
Listen %[4]s:443
SSLEngine on
SSLCertificateFile %[5]s
SSLCertificateKeyFile %[6]s
SSLSessionCache none
ProxyRequests off
ProxyPreserveHost on
RequestHeader unset Forwarded
%[7]s`, &load, dir, gatewayName, gatewayAddr, pair.cert, pair.key, proxyPass))
	// -X means one process in the foreground.
	gateway.start(t, "apache2", spec{argv: []string{"apache2", "-X", "-f", conf}}).
		awaitPort(t, gateway, gatewayAddr+":443")
}
