package server

import (
	"bytes"
	"net/http"
	"net/netip"
	"path"
	"sync/atomic"
	"time"

	"adit/tunnel/ws"
)

// frontLog warns of a proxy in front that damages the requests for WebSockets, so
// that they get the site's answer, usually 404, or that sends what is no request.
// Each kind is logged at most once in frontLogPause, because anybody can cause it.
type frontLog struct {
	upgrade, slash, proxyHeader atomic.Int64 // when it was last logged, by clock; 0: never
}

const frontLogPause = time.Minute

const (
	upgradeLost         = "upgrade lost"
	pathNotClean        = "path not clean"
	proxyHeaderReceived = "PROXY header received"
)

// logDamage logs that a request, which is for the site as it is, was meant for the
// tunnel or for a route.
func (c *core) logDamage(r *http.Request, a *access) {
	asked := ws.IsUpgrade(r) || ws.IsExtendedConnect(r)
	if !asked && r.Header.Get("Sec-WebSocket-Key") == "" {
		return
	}
	clean := path.Clean(r.URL.Path)
	if clean != c.cfg.TunnelPath && a.routes.lookup(r.Host, clean) == nil {
		return
	}
	switch {
	case !asked && due(&c.front.upgrade):
		c.log.Warn(upgradeLost, "addr", addrText(c.clientAddr(r)), "path", truncate(r.URL.Path), "protocol", r.Proto,
			"hint", "let the proxy in front pass Upgrade and Connection on over HTTP/1.1; nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade")
	case asked && a.routes.lookup(r.Host, r.URL.Path) == nil && r.URL.Path != c.cfg.TunnelPath && due(&c.front.slash):
		c.log.Warn(pathNotClean, "addr", addrText(c.clientAddr(r)), "path", truncate(r.URL.Path),
			"hint", "request "+truncate(clean)+"; a proxy in front doubles a slash if its own path and the one that it appends both have one: nginx passes the path on unchanged if proxy_pass names no path")
	}
}

// logProxyHeader logs that a peer sends headers of the PROXY protocol, which fail as
// malformed requests or TLS handshakes: first is the first data of a connection.
func (c *core) logProxyHeader(peer netip.Addr, first []byte) {
	if !bytes.HasPrefix(first, []byte("PROXY")) && !bytes.HasPrefix(first, []byte("\r\n\r\n\x00")) || !due(&c.front.proxyHeader) {
		return
	}
	c.log.Warn(proxyHeaderReceived, "addr", addrText(netip.AddrPortFrom(peer, 0)),
		"hint", "adit takes no PROXY protocol: switch it off in the balancer in front (haproxy: send-proxy, nginx: proxy_protocol on); a balancer that speaks HTTP can name the client in X-Forwarded-For, see trusted-proxies")
}

// due reports whether a line may be logged again, and notes that it is.
func due(last *atomic.Int64) bool {
	before, now := last.Load(), clock()
	return (before == 0 || now-before >= int64(frontLogPause)) && last.CompareAndSwap(before, now)
}
