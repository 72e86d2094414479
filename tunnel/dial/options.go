package dial

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"adit/tunnel/ws"
)

// The defaults of Options.
const (
	DefaultConnectTimeout   = 10 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultUserAgent        = "Mozilla/5.0"
)

// userTimeout is how long data may stay unacknowledged before the kernel ends the connection
// (TCP_USER_TIMEOUT, where the system has it).
const userTimeout = 45 * time.Second

// Options says how Dial connects. The zero value is ready to use: a direct connection. The fields
// must not change while Dial runs; several Dials may use the same Options at the same time.
type Options struct {
	// Proxy returns the upstream proxy for a URL; nil, or a nil result, means none. FixedProxy and
	// ProxyFromValues make such functions. The proxy is an http, https, socks5 or socks5h URL, with
	// optional user information.
	Proxy func(*url.URL) (*url.URL, error)
	// ProxyTLS configures the TLS connection to an https proxy. It is cloned; an empty ServerName
	// becomes the proxy's host. ALPN is always http/1.1. May be nil.
	ProxyTLS *tls.Config
	// TLS configures the connection to a wss server, in the same way.
	TLS *tls.Config
	// Resolver resolves the name of the host that Dial connects to, the server or the proxy. Nil
	// means net.DefaultResolver.
	Resolver *net.Resolver

	// Host replaces the host in the Host header of the upgrade request.
	Host string
	// ConnectTo is the HOST:PORT to connect to, or to ask the proxy for, instead of the URL's; or unix:PATH for
	// a unix socket, to which no proxy leads. It changes neither the Host header nor the name that the server's certificate is checked for.
	ConnectTo string
	// Header has further fields for the upgrade request. Those that belong to the handshake are an error.
	// User-Agent replaces DefaultUserAgent, also in the CONNECT to a proxy.
	Header http.Header
	// Authorization returns the value of the Authorization header. It is called once for each Dial. Nil
	// or an empty value sends none.
	Authorization func() (string, error)

	// ConnectTimeout bounds name resolution, and TCP over all addresses of a name, each by itself, and
	// TCP again if a connection fails later and other addresses get their turn. 0 means
	// DefaultConnectTimeout, negative no bound.
	ConnectTimeout time.Duration
	// HandshakeTimeout bounds the exchange with the proxy, the TLS handshake and the upgrade, each by
	// itself and for each address. 0 means DefaultHandshakeTimeout, negative no bound.
	HandshakeTimeout time.Duration

	// NoSmallHello forbids the last attempt of a Dial, with a ClientHello that fits into one packet because it
	// has no post-quantum key shares. It follows a reset or silence in the TLS handshake: some firewalls
	// lose longer ones.
	NoSmallHello bool

	// Addresses remembers which addresses failed, for later Dials. Nil remembers nothing.
	Addresses *Addresses

	// Conn tunes the connection that Dial returns.
	Conn ws.Options

	// Trace is called when a step has ended, in order, by the goroutine that called Dial. After an event
	// with Retry the steps begin again with TCP. May be nil.
	Trace func(Event)
}

// An Event describes a step that has ended.
type Event struct {
	Step Step
	// Addr is that of Error.
	Addr string
	// Detail is one line for the user about a success: the addresses of a name, the proxy's status line,
	// the TLS version and the certificate's issuer.
	Detail  string
	Elapsed time.Duration
	// TLS is set for a successful TLS step, and for a successful proxy step over TLS.
	TLS *tls.ConnectionState
	// Err is nil, or an *Error: that which Dial is going to return, unless Retry is set.
	Err error
	// Retry says that Dial tries another address, or a small ClientHello, after Err.
	Retry bool
	// SmallHello says that the TLS step, or with Retry the next one, uses a ClientHello without post-quantum key
	// shares.
	SmallHello bool
}
