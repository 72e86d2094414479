package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"time"
)

// visit is a visitor's request to a proxied site. It renews the deadline of the
// body while more of it arrives, and knows whether a missing answer is the site's
// fault.
type visit struct {
	rc      *http.ResponseController
	timeout time.Duration // for more of the body

	// Guarded by mu.
	mu       sync.Mutex
	step     visitStep
	bodyErr  error     // what ended the body; io.EOF if it is complete
	over     bool      // the handler may have returned
	deadline time.Time // of the body; zero before the first read
}

// visitStep is how far a request to the site has come.
type visitStep int

const (
	stepNone visitStep = iota // or the site has answered
	stepDialing
	stepSending // or sending has failed
	stepSent
)

// beginVisit returns a copy of r that has a visit in its context. The caller calls
// over when the handler is about to return.
func beginVisit(w http.ResponseWriter, r *http.Request, timeout time.Duration) (watched *http.Request, over func()) {
	v := &visit{rc: http.NewResponseController(w), timeout: timeout}
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { v.now(stepDialing) },
		GotConn: func(httptrace.GotConnInfo) { v.now(stepSending) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				v.now(stepSent)
			}
		},
	})
	r = r.WithContext(context.WithValue(ctx, visitKey{}, v))
	if r.Body != http.NoBody {
		r.Body = visitBody{r.Body, v}
	}
	return r, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.over = true
	}
}

type visitKey struct{}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

func (v *visit) now(step visitStep) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.step = step
}

// asked reports whether a missing answer is the site's fault: it accepts no
// connection, or it has received the whole request. A request that could not be
// sent may be the visitor's fault.
func (v *visit) asked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.step == stepDialing || v.step == stepSent
}

// fault returns the status for a body that did not arrive, or 0.
func (v *visit) fault() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.bodyErr == nil || v.bodyErr == io.EOF:
		return 0
	case errors.Is(v.bodyErr, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// awaitBody sets the deadline for more of the body. (Over HTTP/2 it also applies
// while the site reads nothing.) It is not renewed for each few bytes, nor after
// the handler has returned, when the deadline is that of the next request.
func (v *visit) awaitBody() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := time.Now(); v.bodyErr == nil && !v.over && v.deadline.Sub(now) < v.timeout*7/8 {
		v.deadline = now.Add(v.timeout)
		_ = v.rc.SetReadDeadline(v.deadline) // fails in tests without a server
	}
}

// visitBody is the body of a visit's request.
type visitBody struct {
	io.ReadCloser
	visit *visit
}

func (b visitBody) Read(p []byte) (int, error) {
	b.visit.awaitBody()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.visit.mu.Lock()
		defer b.visit.mu.Unlock()
		if b.visit.bodyErr == nil {
			b.visit.bodyErr = err
		}
	}
	return n, err
}
