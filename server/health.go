package server

import "context"

// healthSample is how many sessions a check looks into.
const healthSample = 16

// Healthy returns nil when the server makes progress: its accept loops are not stuck, and the locks
// that every connection, session and stream needs can be had before ctx is done. A server without
// clients is healthy, and so is one whose targets or clients do not answer. The error says what is
// stuck; ctx should allow some seconds, as for a machine that is overloaded.
//
// It is what a watchdog asks, and takes microseconds.
func (s *Server) Healthy(ctx context.Context) error {
	return s.progress.Check(ctx, func(_ context.Context, at func(string)) error {
		at("the gate of new connections")
		s.gate.len()
		at("the registry of sessions")
		for _, x := range s.someSessions(healthSample) {
			at("the session of " + userName(x.user) + " at " + x.currentAddr())
			x.mux.Stats()
		}
		return nil
	})
}

// len is how many connections the gate counts.
func (g *gate) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all.Len()
}

// someSessions returns up to n sessions, others each time.
func (s *Server) someSessions(n int) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []*session
	for x := range s.sessions {
		if len(some) == n {
			break
		}
		some = append(some, x)
	}
	return some
}
