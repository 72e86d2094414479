package server

import (
	"crypto/tls"
	"net/http"
	"slices"
)

// protocols returns what the HTTP server speaks: HTTP/1.1, and HTTP/2 with clients
// that ask for it. Over TLS they can do so only while offerHTTP2 offers it;
// without TLS a client must know in advance.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// http2Config detects lost HTTP/2 connections: the route connections on them
// cannot detect the loss themselves.
func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		SendPingTimeout:  DefaultPingInterval,
		PingTimeout:      DefaultPongTimeout,
		WriteByteTimeout: DefaultPingInterval + DefaultPongTimeout,
	}
}

// offerHTTP2 returns a configuration that offers HTTP/2 by ALPN while there are
// routes: the tunnel needs HTTP/1.1.
func offerHTTP2(config *tls.Config, haveRoutes func() bool) *tls.Config {
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
		case !haveRoutes():
			return own, nil
		case own != nil:
			return with(own), nil
		}
		return more, nil
	}
	return plain
}
