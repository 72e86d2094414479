//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// browserOptions say how to start a browser.
type browserOptions struct {
	proxy string // HOST:PORT of an HTTP proxy for everything; "": none
	spki  string // base64 of the SHA-256 of the trusted public key
	http1 bool   // never HTTP/2
	dark  bool
}

// unusedPort returns a port that is free on all addresses. A port that the system chooses may be in
// use in one address family; chromedriver, which listens on both, would then fail.
func (h *host) unusedPort(t *testing.T) (port string) {
	t.Helper()
	for range 100 {
		// The port is below the ephemeral ports.
		port = strconv.Itoa(20000 + rand.IntN(10000))
		var ln net.Listener
		var err error
		h.do(func() { ln, err = net.Listen("tcp", ":"+port) })
		if err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// chromium starts Chromium in the host. chromedriver translates between WebDriver BiDi and
// Chromium's protocol.
func (s browserOptions) chromium(t *testing.T, h *host) *browser {
	t.Helper()
	need(t, "chromium", "chromedriver")
	dir := workDir(t)
	argv := []string{"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-breakpad",
		"--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
		"--remote-debugging-port=0", "--user-data-dir=" + filepath.Join(dir, "profile"),
		"--ignore-certificate-errors-spki-list=" + s.spki}
	if s.proxy != "" {
		argv = append(argv, "--proxy-server=http://"+s.proxy, "--proxy-bypass-list=<-loopback>")
	} else {
		argv = append(argv, "--no-proxy-server")
	}
	if s.http1 {
		argv = append(argv, "--disable-http2")
	}
	if s.dark {
		argv = append(argv, "--blink-settings=preferredColorScheme=0")
	}
	chromium := h.start(t, "chromium", spec{argv: append(argv, "about:blank"), env: []string{"HOME=" + dir}})
	driver := h.start(t, "chromedriver", spec{argv: []string{"chromedriver", "--port=" + h.unusedPort(t)}, env: []string{"HOME=" + dir}})
	devtools := chromium.wait(t, `DevTools listening on ws://([0-9.:]+)/`, 1)[1]
	port := driver.wait(t, `started successfully on port (\d+)`, 1)[1]

	request, err := json.Marshal(map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"webSocketUrl": true, "goog:chromeOptions": map[string]any{"debuggerAddress": devtools},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := h.dial(net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatalf("connect to chromedriver: %v", err)
	}
	transport := &http.Transport{DisableKeepAlives: true, Dial: func(string, string) (net.Conn, error) { return conn, nil }}
	client := &http.Client{Transport: transport, Timeout: patience}
	reply, err := client.Post("http://127.0.0.1:"+port+"/session", "application/json", bytes.NewReader(request))
	if err != nil {
		t.Fatalf("new session of chromedriver: %v", err)
	}
	defer reply.Body.Close()
	var session struct {
		Value struct {
			ID      string `json:"sessionId"`
			Message string `json:"message"`
		} `json:"value"`
	}
	if err := json.NewDecoder(reply.Body).Decode(&session); err != nil || session.Value.ID == "" {
		t.Fatalf("new session of chromedriver: %s, %v, %s", reply.Status, err, session.Value.Message)
	}
	b := h.drive(t, chromium, "ws://127.0.0.1:"+port+"/session/"+session.Value.ID)
	b.ready()
	return b
}

// firefox starts Firefox in the host.
func (s browserOptions) firefox(t *testing.T, h *host) *browser {
	t.Helper()
	need(t, "firefox-esr")
	dir := workDir(t)
	var prefs strings.Builder
	set := func(name string, value any) { fmt.Fprintf(&prefs, "user_pref(%q, %#v);\n", name, value) }
	set("network.proxy.type", 0)
	if s.proxy != "" {
		host, port, err := net.SplitHostPort(s.proxy)
		if err != nil {
			t.Fatal(err)
		}
		set("network.proxy.type", 1)
		for _, kind := range []string{"http", "ssl"} {
			set("network.proxy."+kind, host)
			fmt.Fprintf(&prefs, "user_pref(%q, %s);\n", "network.proxy."+kind+"_port", port)
		}
		set("network.proxy.allow_hijacking_localhost", true)
	}
	set("network.http.http2.enabled", !s.http1)
	set("ui.systemUsesDarkTheme", map[bool]int{true: 1, false: 0}[s.dark])
	// Disable all requests to other hosts.
	for _, off := range []string{"app.update.enabled", "app.normandy.enabled", "browser.safebrowsing.malware.enabled", "browser.safebrowsing.phishing.enabled",
		"datareporting.policy.dataSubmissionEnabled", "extensions.update.enabled", "network.captive-portal-service.enabled",
		"network.connectivity-service.enabled", "services.settings.enabled", "browser.shell.checkDefaultBrowser"} {
		set(off, false)
	}
	writeFile(t, dir, "user.js", prefs.String())
	p := h.start(t, "firefox", spec{
		argv: []string{"firefox-esr", "--headless", "--no-remote", "--profile", dir, "--remote-debugging-port", "0", "about:blank"},
		env:  []string{"HOME=" + dir, "MOZ_CRASHREPORTER_DISABLE=1"},
	})
	b := h.drive(t, p, p.wait(t, `WebDriver BiDi listening on (ws://\S+)`, 1)[1]+"/session")
	b.do("session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}}, nil)
	b.ready()
	return b
}
