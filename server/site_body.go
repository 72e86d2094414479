package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// visitorBody is the body of a visitor's request. It gives the visitor as much
// time as there goes on to be more of it, and knows whether the site, when it does
// not answer, may have waited for the visitor in vain.
type visitorBody struct {
	io.ReadCloser
	rc       *http.ResponseController
	patience time.Duration // for more of it

	mu    sync.Mutex
	begun bool      // somebody has asked for it
	err   error     // what ended it; io.EOF when all of it has come
	over  bool      // the handler may have returned
	until time.Time // when patience ends; the zero Time before the first read
}

// watchBody has a visitor's body watched until handled is called.
func watchBody(w http.ResponseWriter, r *http.Request, patience time.Duration) (watched *http.Request, handled func()) {
	if r.Body == http.NoBody {
		return r, func() {}
	}
	b := &visitorBody{ReadCloser: r.Body, rc: http.NewResponseController(w), patience: patience}
	r = r.WithContext(context.WithValue(r.Context(), visitorBodyKey{}, b)) // a copy
	r.Body = b
	return r, b.handled
}

func (b *visitorBody) Read(p []byte) (int, error) {
	b.wait()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.err == nil {
			b.err = err
		}
	}
	return n, err
}

// wait begins the wait for more. The deadline is not moved for each few bytes.
func (b *visitorBody) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = true
	if now := time.Now(); b.err == nil && !b.over && b.until.Sub(now) < b.patience*7/8 {
		b.until = now.Add(b.patience)
		_ = b.rc.SetReadDeadline(b.until) // in vain in a test without a server
	}
}

// handled says that the handler returns: there is no deadline to set any more,
// though somebody may still be reading.
func (b *visitorBody) handled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

type visitorBodyKey struct{}

// verdict judges a request that the site has not answered. A status other than 0
// is what the visitor gets for a fault in its body. blameless says that the site
// may have waited in vain for more of it.
func verdict(r *http.Request) (status int, blameless bool) {
	b, _ := r.Context().Value(visitorBodyKey{}).(*visitorBody)
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, true
	case b.err != nil && b.err != io.EOF:
		return http.StatusBadRequest, true
	}
	return 0, b.begun && b.err == nil
}
