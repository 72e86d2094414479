package mux

import (
	"sync"

	"github.com/hashicorp/yamux"

	"adit/tunnel"
)

// Stream is one connection through a session. It behaves as TCP does: each
// direction ends by itself (CloseWrite, io.EOF), and any other end is an error,
// never a clean end of data.
//
// One goroutine may read and another may write. Reset may be called by any
// goroutine and unblocks both, except a Write that is handing bytes to a connection
// which takes none: that waits until the connection does or is lost. The owner calls
// Close when both are done.
type Stream struct {
	core   *core
	yamux  *yamux.Stream
	owner  streamOwner
	opener bool
	target Target

	// Used only by the reader.
	in        streamReader
	window    receiveWindow
	overLimit bool // the shared credit limit has none left for this stream
	header    [frameHeader]byte
	remain    int // payload bytes left of the current frame
	gotResult bool
	refused   error // what the result said

	// Used only by the writer, except that the peer may revoke credit.
	credit sendCredit

	// The end, guarded by mu.
	mu      sync.Mutex
	err     error // why the stream is over, unless it ended well
	discard bool  // what the peer sent before is not wanted
	closed  bool  // by Close
	gotEnd  bool
	sentEnd bool
	gone    func()
	blocked func() error

	done chan struct{} // closed when err is set
}

// streamOwner is the session of a stream.
type streamOwner interface {
	// removeStream is called once, when the stream is closed.
	removeStream(*Stream)
}

// newStream returns the stream on ys. The peer takes credit bytes at first.
func (c *core) newStream(ys *yamux.Stream, owner streamOwner, opener bool, credit uint32) *Stream {
	s := &Stream{
		core: c, yamux: ys, owner: owner, opener: opener,
		in:     c.adapter.reader(ys.StreamID()),
		credit: sendCredit{added: make(chan struct{}, 1)},
		done:   make(chan struct{}),
	}
	s.credit.bytes.Store(int64(credit))
	s.overLimit = !c.windows.add(&s.window, ys.StreamID(), s.in.in)
	return s
}

func (s *Stream) id() uint32 { return s.yamux.StreamID() }

// Capabilities are those of a relay's endpoint.
func (s *Stream) Capabilities() tunnel.Capabilities {
	return tunnel.Capabilities{
		WaitReadable: s.WaitReadable, Await: s.Await, View: s.View, Take: s.Take,
		Room: s.Room, WriteBuffer: s.WriteBuffer, Headroom: streamHeadroom, WriteOwned: s.WriteOwned, WriteFrom: s.WriteFrom,
		Watch: s.Watch,
	}
}

// Target is what the stream is, or was to be, connected to. On the accepting
// side it is known after ReadTarget.
func (s *Stream) Target() Target { return s.target }
