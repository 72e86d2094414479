package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ProxyOptions says how ProxySite reaches the site. The zero value is useful.
type ProxyOptions struct {
	// ConnectTimeout bounds the name resolution and the TCP connection.
	// Default 5 s.
	ConnectTimeout time.Duration
	// ResponseTimeout bounds the wait for the head of an answer, once the
	// request is sent. Default 1 min.
	ResponseTimeout time.Duration
	// BodyTimeout bounds the wait for more of a request's body. It replaces
	// Config.RequestTimeout. Default 1 min.
	BodyTimeout time.Duration
	// TLS configures connections to https:// sites. Default: the system's
	// authorities.
	TLS *tls.Config
	// TrustedProxies are the proxies in front of this server, whose
	// X-Forwarded-*, Forwarded and X-Real-IP are passed on. Those of other peers
	// are removed. If there are any, peers on unix sockets are trusted, too.
	TrustedProxies []netip.Prefix
	// Logger gets a line when the site becomes unreachable and when it recovers.
	// Default: discarded.
	Logger *slog.Logger
}

// ProxySite returns a site that another web server answers:
// http://HOST[:PORT][/PATH], https://HOST[:PORT][/PATH], or unix:PATH for plain
// HTTP over a unix socket.
//
// The web server gets the method, path, query, Host, body and fields of the
// request unchanged, without the hop-by-hop fields (RFC 9110, section 7.6.1), and
// with X-Forwarded-For, -Host and -Proto. WebSockets pass through, including those
// that a visitor opens over HTTP/2; other upgrades and CONNECT are refused. The
// visitor gets 502 if the web server is unreachable, 504 after a timeout, and 400
// or 408 if the body of the request is incomplete.
func ProxySite(target string, o ProxyOptions) (http.Handler, error) {
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	o.ResponseTimeout = cmp.Or(o.ResponseTimeout, time.Minute)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	to, dial, err := proxyTarget(target, &net.Dialer{Timeout: o.ConnectTimeout})
	if err != nil {
		return nil, fmt.Errorf("site %q: %w", target, err)
	}
	p := &proxySite{target: to, trusted: o.TrustedProxies, bodyTimeout: o.BodyTimeout, log: o.Logger}
	p.proxy = &httputil.ReverseProxy{
		Rewrite: p.rewrite,
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        o.TLS,
			TLSHandshakeTimeout:    o.ConnectTimeout,
			ResponseHeaderTimeout:  o.ResponseTimeout,
			ExpectContinueTimeout:  time.Second,
			IdleConnTimeout:        30 * time.Second,
			MaxIdleConns:           64,
			MaxIdleConnsPerHost:    64,
			MaxResponseHeaderBytes: 256 << 10,
			DisableCompression:     true, // pass on the encodings that the visitor accepts
		},
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(httpLog{o.Logger}, "", 0),
		BufferPool:     copyBuffers,
	}
	return p, nil
}

type proxySite struct {
	target      *url.URL
	trusted     trustedProxies
	bodyTimeout time.Duration
	proxy       *httputil.ReverseProxy
	log         *slog.Logger
	down        atomic.Bool // the last request to it failed
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// proxyTarget parses the address of a site.
func proxyTarget(target string, d *net.Dialer) (*url.URL, dialFunc, error) {
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if path == "" {
			return nil, nil, errors.New("the path of the socket is missing")
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}, nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, nil, errors.Unwrap(err) // without the URL, which the caller adds
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, nil, errors.New("not http://HOST, https://HOST or unix:PATH")
	case u.Hostname() == "":
		return nil, nil, errors.New("the host is missing")
	case u.User != nil:
		return nil, nil, errors.New("a user name is not allowed")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, nil, errors.New("a query or a fragment is not allowed")
	}
	return u, d.DialContext, nil
}

func (p *proxySite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		if !strings.EqualFold(r.Header.Get(":protocol"), "websocket") {
			notAllowed(w)
			return
		}
		w, r = asUpgrade(w, r)
	}
	r, over := beginVisit(w, r, p.bodyTimeout)
	defer over()
	w.Header()["Content-Type"] = nil // net/http must not guess it
	p.proxy.ServeHTTP(w, r)
}

func (p *proxySite) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(p.target)
	r.Out.Host = r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // even if Go considers it malformed
	peer := remoteAddr(r.In)
	trusted := p.trusted.include(peer)
	if trusted {
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	} else {
		maps.DeleteFunc(r.Out.Header, func(name string, _ []string) bool { return isForwardingField(name) })
	}
	r.SetXForwarded()
	if trusted {
		pass := []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"}
		if !peer.IsValid() { // nothing to add
			pass = append(pass, "X-Forwarded-For")
		}
		for _, name := range pass {
			if v := r.In.Header[name]; len(v) > 0 {
				r.Out.Header[name] = v
			}
		}
	}
	// A visitor who could switch to h2c would bypass the checks of this server.
	if !strings.EqualFold(r.Out.Header.Get("Upgrade"), "websocket") {
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
}

// isForwardingField reports whether proxies name the origin of a request with a
// field. Many web servers treat an underscore in a name like a hyphen.
func isForwardingField(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	return strings.HasPrefix(name, "x-forwarded-") || name == "x-real-ip" || name == "forwarded"
}

func (p *proxySite) answered(resp *http.Response) error {
	visitOf(resp.Request).now(stepNone) // later failures do not mean that it is unreachable
	if p.down.CompareAndSwap(true, false) {
		p.log.Info("site recovered", "site", p.target.Redacted())
	}
	return nil
}

// failed answers a request that the site has not answered. An outage is logged
// once, not for each request, and a failure that the visitor may have caused is
// not logged.
func (p *proxySite) failed(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r)
	if status := v.fault(); status != 0 {
		http.Error(w, fmt.Sprintf("%d %s", status, strings.ToLower(http.StatusText(status))), status)
		return
	}
	if r.Context().Err() != nil { // the visitor has gone
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if v.asked() && p.down.CompareAndSwap(false, true) {
		p.log.Warn("site unreachable", "site", p.target.Redacted(), "reason", err)
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		http.Error(w, "504 gateway timeout", http.StatusGatewayTimeout)
		return
	}
	http.Error(w, "502 bad gateway", http.StatusBadGateway)
}

// copyBuffers are the buffers through which answers are copied.
var copyBuffers = new(bufferPool)

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) {
	if len(b) == 32<<10 {
		p.pool.Put((*[32 << 10]byte)(b))
	}
}
