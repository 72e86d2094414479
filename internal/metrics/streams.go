package metrics

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stream is an open stream of a session, in the format of /status.
type Stream struct {
	Target   string    `json:"target"` // as requested
	Opened   time.Time `json:"opened"`
	Received int64     `json:"received_bytes"` // payload, from the peer
	Sent     int64     `json:"sent_bytes"`     // payload, to the peer
}

// Streams are the open streams of a session. The zero value is ready for use. It is
// safe for concurrent use.
type Streams struct {
	mu   sync.Mutex
	open map[*OpenStream]struct{}
}

// OpenStream is one stream of Streams.
type OpenStream struct {
	target         string
	opened         time.Time
	received, sent *atomic.Int64
}

// Add adds a stream, which is open until Remove. received and sent count its payload.
func (s *Streams) Add(target string, opened time.Time, received, sent *atomic.Int64) *OpenStream {
	o := &OpenStream{target, opened.UTC(), received, sent}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*OpenStream]struct{})
	}
	s.open[o] = struct{}{}
	return o
}

// Remove removes a stream. Nil and a stream that was removed before are allowed.
func (s *Streams) Remove(o *OpenStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o)
}

// MaxListed is how many streams List returns at most.
const MaxListed = 100

// List returns the open streams, oldest first, and of more than MaxListed the oldest.
func (s *Streams) List() []Stream {
	list := []Stream{}
	s.mu.Lock()
	for o := range s.open {
		list = append(list, Stream{o.target, o.opened, o.received.Load(), o.sent.Load()})
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b Stream) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.Target, b.Target))
	})
	return slices.Clone(list[:min(len(list), MaxListed)])
}
