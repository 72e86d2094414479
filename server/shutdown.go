package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// flushTimeout is how long net/http may take at the end to send what it has
// buffered.
const flushTimeout = 500 * time.Millisecond

// Withdraw makes Ready return an error, so that a load balancer sends further
// clients elsewhere. The server goes on serving all clients until Shutdown.
func (s *Server) Withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withdrawn = true
}

// Shutdown stops accepting, tells the clients that the server is going away,
// waits until their streams have ended or ctx is done, and closes everything that
// is left. The error, which wraps that of ctx, says how many sessions had streams
// that were cut short.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.routes.stop()
	sessions := s.tunnel.sessions.stop()
	stop := context.AfterFunc(ctx, s.tunnel.cancel)
	defer stop()
	var all sync.WaitGroup
	var cutSessions, cutRoutes atomic.Int64
	routesEnded := make(chan struct{})
	all.Go(func() {
		cutRoutes.Store(s.routes.drain(ctx))
		close(routesEnded)
	})
	all.Go(func() { s.shutdownHTTP(ctx, routesEnded) })
	for _, x := range sessions {
		all.Go(func() {
			if s.tunnel.drain(ctx, x) {
				cutSessions.Add(1)
			}
		})
	}
	all.Wait()
	s.tunnel.cancel()
	s.routes.cut()
	s.limiter.closeAll() // net/http does not close the WebSockets of the site
	s.tunnel.sessions.wg.Wait()
	s.flushLogs()
	var faults []error
	if n := cutSessions.Load(); n > 0 {
		faults = append(faults, fmt.Errorf("the streams of %d sessions were cut short: %w", n, context.Cause(ctx)))
	}
	if n := cutRoutes.Load(); n > 0 {
		faults = append(faults, fmt.Errorf("%d connections of routes were cut short: %w", n, context.Cause(ctx)))
	}
	return errors.Join(faults...)
}

// shutdownHTTP closes the listeners, serves the requests in progress until ctx is
// done, and closes all connections of net/http.
func (s *Server) shutdownHTTP(ctx context.Context, routesEnded <-chan struct{}) {
	s.stopListening()
	s.awaitLastRequests(ctx)
	s.limiter.stop() // net/http would wait 5 s for connections that never sent a request
	if s.http.Shutdown(ctx) == nil {
		return
	}
	// Over HTTP/2 the close messages of routes, and the ends of their streams,
	// are sent on connections of net/http.
	<-routesEnded
	flush, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if s.http.Shutdown(flush) != nil {
		s.http.Close()
	}
}

// awaitLastRequests waits until all accepted connections have sent a request, for
// at most LastRequestTimeout: net/http answers none that come later.
func (s *Server) awaitLastRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.LastRequestTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		accepting := len(s.listeners) > 0
		s.mu.Unlock()
		if !accepting && !s.limiter.awaitsRequest() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
