package certs

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"time"
)

const acmeRequestTimeout = 30 * time.Second

// acmeClient returns an HTTP client without a proxy. Its requests end with
// ctx, because autocert gives its callers no way to cancel them.
func acmeClient(ctx context.Context, rootCAFile string) (*http.Client, error) {
	t := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	if rootCAFile != "" {
		pool, err := LoadPool(rootCAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Timeout: acmeRequestTimeout, Transport: &endingTransport{ctx, t}}, nil
}

// endingTransport cancels its requests and refuses new ones when ctx ends.
type endingTransport struct {
	ctx  context.Context
	next http.RoundTripper
}

func (t *endingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(t.ctx, cancel)
	res, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	res.Body = &endingBody{res.Body, func() { stop(); cancel() }}
	return res, nil
}

func (t *endingTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// endingBody releases the request's context when the response body is closed.
type endingBody struct {
	io.ReadCloser
	release func()
}

func (b *endingBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
