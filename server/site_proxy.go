package server

import (
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
	// BodyTimeout bounds the wait for more of a request's body, in place of a
	// bound of the server for the whole request. Default 1 min.
	BodyTimeout time.Duration
	// TLS is for a site at https://. Default: the system's authorities.
	TLS *tls.Config
	// TrustedProxies are the proxies in front of this server whose
	// X-Forwarded-*, Forwarded and X-Real-IP are passed on; anyone else's are
	// removed. If there are any, a peer on a unix socket is one, too.
	TrustedProxies []netip.Prefix
	// Logger is told when the site stops answering and when it answers again.
	// Default: discarded.
	Logger *slog.Logger
}

// ProxySite has another web server answer: http://HOST[:PORT][/PATH],
// https://HOST[:PORT][/PATH], or unix:PATH for plain HTTP over a unix socket.
//
// The site sees the request as it came: method, path, query, Host, body and
// fields, without the hop-by-hop ones (RFC 9110, section 7.6.1), and with
// X-Forwarded-For, -Host and -Proto. Its own WebSockets pass through, those
// that a visitor opens over HTTP/2, too; no other protocol is switched to, and
// CONNECT is refused. A site that cannot be reached is 502 to the visitor, one
// that takes too long 504; a visitor whose request does not come whole gets 400 or
// 408.
func ProxySite(target string, o ProxyOptions) (http.Handler, error) {
	orDefault(&o.ConnectTimeout, 5*time.Second)
	orDefault(&o.ResponseTimeout, time.Minute)
	orDefault(&o.BodyTimeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	to, dial, err := proxyTarget(target, &net.Dialer{Timeout: o.ConnectTimeout})
	if err != nil {
		return nil, fmt.Errorf("site %q: %w", target, err)
	}
	p := &proxySite{target: to, trusted: o.TrustedProxies, patience: o.BodyTimeout, log: o.Logger}
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
			DisableCompression:     true, // what the visitor accepts is the visitor's to say
		},
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(httpLog{o.Logger}, "", 0),
		BufferPool:     copyBuffers,
	}
	return p, nil
}

type proxySite struct {
	target   *url.URL
	trusted  trustedProxies
	patience time.Duration // for more of a body
	proxy    *httputil.ReverseProxy
	log      *slog.Logger
	down     atomic.Bool // the last request failed
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// proxyTarget reads the address of a site.
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
		return nil, nil, errors.Unwrap(err) // without the address, which the caller names
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, nil, errors.New("not http://HOST, https://HOST or unix:PATH")
	case u.Hostname() == "":
		return nil, nil, errors.New("the host is missing")
	case u.User != nil:
		return nil, nil, errors.New("a user name has no place in it")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, nil, errors.New("a query or a fragment has no place in it")
	}
	return u, d.DialContext, nil
}

func (p *proxySite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		if r.Header.Get(":protocol") != "websocket" {
			notAllowed(w)
			return
		}
		w, r = asUpgrade(w, r)
	}
	r, over := beginVisit(w, r, p.patience)
	defer over()
	w.Header()["Content-Type"] = nil // the site's, or none: never a guess
	p.proxy.ServeHTTP(w, r)
}

func (p *proxySite) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(p.target)
	r.Out.Host = r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // also what Go would call malformed
	peer := remoteAddr(r.In)
	trusted := p.trusted.include(peer)
	if trusted {
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	} else {
		maps.DeleteFunc(r.Out.Header, func(name string, _ []string) bool { return saysWhere(name) })
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
	// A visitor who could switch to h2c, say, would reach the site past us.
	if !strings.EqualFold(r.Out.Header.Get("Upgrade"), "websocket") {
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
}

// saysWhere reports a field with which proxies tell where a request comes from. Many
// sites take an underscore in a name for a hyphen.
func saysWhere(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	return strings.HasPrefix(name, "x-forwarded-") || name == "x-real-ip" || name == "forwarded"
}

func (p *proxySite) answered(resp *http.Response) error {
	visitOf(resp.Request).now(notAsked) // what fails from here on is not its silence
	if p.down.CompareAndSwap(true, false) {
		p.log.Info("the site answers again", "site", p.target.Redacted())
	}
	return nil
}

// failed answers for a site that did not. The log gets one line for an outage,
// not one for each visitor, and none for what may be a visitor's fault.
func (p *proxySite) failed(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r)
	if status := v.fault(); status != 0 {
		http.Error(w, fmt.Sprintf("%d %s", status, strings.ToLower(http.StatusText(status))), status)
		return
	}
	if r.Context().Err() != nil { // the visitor left
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if v.asked() && p.down.CompareAndSwap(false, true) {
		p.log.Warn("the site does not answer", "site", p.target.Redacted(), "reason", err)
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		http.Error(w, "504 gateway timeout", http.StatusGatewayTimeout)
		return
	}
	http.Error(w, "502 bad gateway", http.StatusBadGateway)
}

// copyBuffers are what answers are copied through.
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
