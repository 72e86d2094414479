package server

import "context"

// healthSample is how many sessions a check examines.
const healthSample = 16

// Healthy returns nil if the server makes progress: its accept loops are not
// stuck, and the locks that every connection, session and stream needs can be
// acquired before ctx is done. A server without clients is healthy, and so is one
// whose targets or clients do not answer. The error says what is stuck. ctx should
// allow some seconds, for an overloaded machine.
//
// It is meant for a watchdog, and takes microseconds.
func (s *Server) Healthy(ctx context.Context) error {
	return s.progress.Check(ctx, func(_ context.Context, at func(string)) error {
		at("the limiter of unauthenticated connections")
		s.limiter.len()
		at("the table of sessions")
		for _, x := range s.tunnel.sessions.some(healthSample) {
			at("the session of " + userName(x.user) + " at " + x.currentAddr())
			x.mux.Stats()
		}
		return nil
	})
}
