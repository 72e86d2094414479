package server

import (
	"net/http"
	"path"
	"sync/atomic"
	"time"

	"adit/tunnel/ws"
)

// frontLog warns of a proxy in front that damages the requests for WebSockets, so
// that they get the site's answer, usually 404. Each kind of damage is logged at
// most once in frontLogPause, because anybody can send such requests.
type frontLog struct {
	upgrade, slash atomic.Int64 // when it was last logged, by clock; 0: never
}

const frontLogPause = time.Minute

const (
	upgradeLost  = "upgrade lost"
	pathNotClean = "path not clean"
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

// due reports whether a line may be logged again, and notes that it is.
func due(last *atomic.Int64) bool {
	before, now := last.Load(), clock()
	return (before == 0 || now-before >= int64(frontLogPause)) && last.CompareAndSwap(before, now)
}
