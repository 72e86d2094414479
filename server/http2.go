package server

import (
	"crypto/tls"
	"net/http"
	"slices"
)

// protocols is what the HTTP server speaks: HTTP/1.1 and, to those who ask
// for it, HTTP/2. Over TLS it can only be asked for where offerHTTP2 offers
// it; without TLS a client must know in advance.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// http2Config finds out about connections whose other end is gone: they carry
// routes' connections, which cannot tell by themselves.
func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		SendPingTimeout:  DefaultPingInterval,
		PingTimeout:      DefaultPongTimeout,
		WriteByteTimeout: DefaultPingInterval + DefaultPongTimeout,
	}
}

// offerHTTP2 has a listener offer HTTP/2 by ALPN while there are routes, and
// only then: the tunnel is HTTP/1.1.
func (s *Server) offerHTTP2(config *tls.Config) *tls.Config {
	if slices.Contains(config.NextProtos, "h2") {
		return config
	}
	with := func(c *tls.Config) *tls.Config {
		c = c.Clone()
		c.NextProtos = append([]string{"h2"}, c.NextProtos...)
		return c
	}
	plain, more := config.Clone(), with(config)
	choose := config.GetConfigForClient
	plain.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		var own *tls.Config
		if choose != nil {
			var err error
			if own, err = choose(hello); err != nil {
				return nil, err
			}
		}
		switch {
		case len(s.access.Load().routes) == 0:
			return own, nil
		case own != nil:
			return with(own), nil
		}
		return more, nil
	}
	return plain
}
