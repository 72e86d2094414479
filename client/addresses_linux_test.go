package client_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/server"
	"adit/tunnel/ws"
)

// An address whose path passes the upgrade and then nothing more does not keep the
// client from the other address of the name.
func TestSilenceAfterTheUpgradeMovesToAnotherAddress(t *testing.T) {
	g := startServer(t, server.Config{}, access(t, "*:*"))
	_, port, _ := net.SplitHostPort(g.addr)
	ln, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	quiet := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := ws.Accept(w, r, nil); err == nil {
			defer c.CloseNow()
			c.NextMessage()
			c.NextMessage() // until the client gives up
		}
	})}
	served := make(chan struct{})
	go func() { defer close(served); quiet.Serve(tls.NewListener(ln, g.config)) }()
	t.Cleanup(func() { quiet.Close(); <-served })

	cfg := g.clientConfig(tcp(testnet.Echo(t)))
	cfg.Servers = []string{"wss://gw.example.com:" + port + "/tunnel"}
	cfg.Dial.TLS.ServerName = "localhost"
	cfg.Dial.Resolver = testnet.NewResolver(t, map[string][]netip.Addr{
		"gw.example.com": {netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")},
	})
	cfg.Mux.HandshakeTimeout = 300 * time.Millisecond
	r := run(t, cfg)
	r.log.Wait(t, 1, "connect failed")
	r.log.Wait(t, 1, "link up")
	mustEcho(t, r.dial(t, 0))
}
