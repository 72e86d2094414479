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

// visit is a visitor's request to a site behind. It gives the visitor as much
// time as there goes on to be more of the body, and knows, when the site has not
// answered, whether it was asked.
type visit struct {
	rc       *http.ResponseController
	patience time.Duration // for more of the body

	mu      sync.Mutex
	asking  asking
	bodyErr error     // what ended the body; io.EOF when all of it has come
	over    bool      // the handler may have returned
	until   time.Time // when patience ends; the zero Time before the first read
}

// asking is how far the site has been asked.
type asking int

const (
	notAsked asking = iota // or it has answered
	dialling
	sending // or sending has failed
	sent
)

// beginVisit has a request watched until over is called. failed finds the visit
// in the request's context.
func beginVisit(w http.ResponseWriter, r *http.Request, patience time.Duration) (watched *http.Request, over func()) {
	v := &visit{rc: http.NewResponseController(w), patience: patience}
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { v.now(dialling) },
		GotConn: func(httptrace.GotConnInfo) { v.now(sending) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				v.now(sent)
			}
		},
	})
	r = r.WithContext(context.WithValue(ctx, visitKey{}, v)) // a copy
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

func (v *visit) now(a asking) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asking = a
}

// asked reports whether it is the site that has not answered: it does not take a
// connection, or it has got the whole request. A request that cannot be sent, as
// it is or as it comes, may be the visitor's fault.
func (v *visit) asked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asking == dialling || v.asking == sent
}

// fault is the status for a body that has not come as it should, or 0.
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

// awaitBody begins the wait for more. (Over HTTP/2 the deadline also counts while the
// site takes nothing.) It is not moved for each few bytes, nor behind the end of the handler, when it is the next request's.
func (v *visit) awaitBody() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := time.Now(); v.bodyErr == nil && !v.over && v.until.Sub(now) < v.patience*7/8 {
		v.until = now.Add(v.patience)
		_ = v.rc.SetReadDeadline(v.until) // in vain in a test without a server
	}
}

// visitBody is the body of a visit.
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
