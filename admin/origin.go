package admin

import (
	"net"
	"net/http"
	"net/netip"
)

// refuseOtherSites protects against web pages of other sites, which can make a
// browser on this machine send requests to loopback. It refuses Host headers
// that are not loopback, for pages whose name resolves to 127.0.0.1 (DNS
// rebinding), and requests that the browser marks as those of another site.
// No answer lets another site read it.
func refuseOtherSites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !overUnix(r) && !isLoopbackHost(r.Host) {
			http.Error(w, "421 wrong host name for the admin address: use 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
			return
		}
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
		default:
			if r.URL.Path != "/" { // other sites may link to the status page
				http.Error(w, "403 only the status page may request this", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// noStore keeps answers out of caches and of the frames of web pages.
func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// overUnix reports whether a request came over a unix socket, which browsers
// cannot reach and where the Host header means nothing.
func overUnix(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return local != nil && local.Network() == "unix"
}

// isLoopbackHost reports whether a Host header is localhost or a loopback
// address.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
