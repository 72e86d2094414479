//go:build linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// snippet returns the one code block in a document that is of language and contains a text.
func snippet(t *testing.T, file, language, contains string) string {
	t.Helper()
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(readFile(t, file), -1) {
		if strings.Contains(m[1], contains) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks of %s with %q", file, len(found), language, contains)
	}
	return found[0]
}

// replaced replaces texts, each of which must be present.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("there is no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// The load balancers of docs/load-balancing.md, as documented, send each client to the same server
// by its address. If a server is gone, only its own clients change to another one.
func TestStickyBalancing(t *testing.T) {
	t.Parallel()
	const doc = "../docs/load-balancing.md"
	const a, b = "127.0.0.1:8081", "127.0.0.1:8082"
	for _, balancer := range []struct {
		name  string
		start func(t *testing.T, h *host, pair keyPair) *process
	}{
		{"haproxy", func(t *testing.T, h *host, pair keyPair) *process {
			need(t, "haproxy")
			dir := workDir(t)
			both := writeFile(t, dir, "gw.pem", readFile(t, pair.cert)+readFile(t, pair.key))
			conf := writeFile(t, dir, "haproxy.cfg", "global\n\tmaxconn 1000\n"+
				replaced(t, snippet(t, doc, "haproxy", "balance source"), "/etc/haproxy/gw.pem", both, "10.0.0.11:8080", a, "10.0.0.12:8080", b))
			return h.start(t, "haproxy", spec{argv: []string{"haproxy", "-db", "-f", conf}})
		}},
		{"nginx", func(t *testing.T, h *host, pair keyPair) *process {
			need(t, "nginx")
			dir := workDir(t)
			conf := writeFile(t, dir, "nginx.conf", fmt.Sprintf(`daemon off;
master_process off;
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
	%[2]s
}
`, dir, replaced(t, snippet(t, doc, "nginx", "hash $remote_addr consistent"), "/etc/nginx/gw.crt", pair.cert, "/etc/nginx/gw.key", pair.key,
				"10.0.0.11:8080", a, "10.0.0.12:8080", b)))
			return h.start(t, "nginx", spec{argv: []string{"nginx", "-p", dir, "-e", "stderr", "-c", conf}})
		}},
	} {
		t.Run(balancer.name, func(t *testing.T) {
			t.Parallel()
			h := isolated(t, "gateway")
			h.ip(t, "addr add "+gatewayAddr+"/32 dev lo")
			pair, alice := newKeyPair(t, gatewayName), newAccount(t, h, "alice")
			toml := snippet(t, doc, "toml", "trusted-proxies")
			servers := map[string]*server{}
			for _, addr := range []string{a, b} {
				dir := workDir(t)
				site := writeFile(t, dir, "index.html", "server "+addr)
				conf := replaced(t, toml, "10.0.0.11:8080", addr, "10.0.0.0/24", "127.0.0.0/8") + "[site]\nroot = \"" + strings.TrimSuffix(site, "/index.html") + "\"\n" + alice.users("127.0.0.1:1")
				servers[addr] = h.server(t, "--config", writeFile(t, dir, "server.toml", conf))
			}
			balancer.start(t, h, pair).awaitPort(t, h, gatewayAddr+":443")
			connect := func(from string) *tls.Conn {
				t.Helper()
				var conn net.Conn
				var err error
				h.do(func() {
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
					conn, err = d.Dial("tcp", gatewayAddr+":443")
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				conn.SetDeadline(time.Now().Add(patience))
				return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			}
			// at returns the server that a client with an address reaches.
			at := func(from string) string {
				t.Helper()
				status, answer := ask(t, connect(from), request("GET / HTTP/1.1", "Connection: close"))
				for addr := range servers {
					if status == 200 && strings.Contains(answer, "server "+addr) {
						return addr
					}
				}
				return fmt.Sprintf("nowhere: %d", status)
			}
			home := map[string]string{}
			clients := map[string]int{}
			for i := range 16 {
				from := fmt.Sprintf("127.0.1.%d", 1+i*7)
				h.ip(t, "addr add "+from+"/32 dev lo")
				home[from] = at(from)
				clients[home[from]]++
				for range 3 {
					if again := at(from); again != home[from] {
						t.Fatalf("%s comes to %s and to %s", from, home[from], again)
					}
				}
			}
			if clients[a] == 0 || clients[b] == 0 || len(clients) != 2 {
				t.Errorf("clients are distributed as %v", clients)
			}
			// The tunnel reaches the same server, and the server knows the client's address.
			for from, addr := range home {
				conn := connect(from)
				if status, answer := ask(t, conn, upgrade(tunnelPath, alice.bearer(t))); status != 101 {
					t.Fatalf("the tunnel: %s", answer)
				}
				conn.Close()
				servers[addr].wait(t, `msg="session refused".*addr=`+regexp.QuoteMeta(from)+`\b|msg="session opened".*addr=`+regexp.QuoteMeta(from)+`\b`, 1)
				break
			}
			servers[a].stop(t)
			for from, addr := range home {
				eventually(t, patience, from+" reaches the remaining server", func() error {
					if now := at(from); now != b {
						return fmt.Errorf("it reaches %s", now)
					}
					return nil
				})
				if addr == b && at(from) != b {
					t.Errorf("%s was moved", from)
				}
			}
		})
	}
}
