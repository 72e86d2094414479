package mux

import (
	"math"
	"sync"
	"sync/atomic"

	"adit/mux/link"
)

// The parts of yamux's frame header that the adapter uses; the format is in
// yamux's spec.md: version, type, flags (2 bytes), stream (4), length (4).
const (
	yamuxHeader       = 12
	yamuxData         = 0
	yamuxWindowUpdate = 1
	yamuxGoAway       = 3
	yamuxSYN          = 1
	yamuxACK          = 2
	yamuxFIN          = 4
	yamuxRST          = 8
)

// adapter stands between yamux and the link: it is the net.Conn that yamux runs
// on.
//
// yamux numbers, opens and closes streams. What the streams carry goes beside
// it, because yamux would copy every byte and pass it from one goroutine to
// another. Outbound, yamux writes only the headers that open and close streams.
// Inbound, data goes to the streams' receive buffers, and yamux gets the headers
// that open and close streams.
//
// The adapter also keeps a peer from making yamux do what adit never asks for:
// pings (yamux starts a goroutine for each), frames above a bound, and more
// unread bytes than the session's flow control allows.
type adapter struct {
	link   *link.Link
	onEnd  func()       // called when the link is over, before yamux gets to know
	limit  int64        // the most that unread may reach
	unread atomic.Int64 // bytes of frames received and not yet consumed
	memory atomic.Int64 // bytes that receive buffers occupy
	// allowance is what the peer may send on a stream before it is granted more.
	allowance int64

	// Inbound; used only by yamux's reading goroutine.
	peerParity uint32      // stream ids of the peer modulo 2
	buffered   func() bool // link.Buffered; nil: never
	header     [yamuxHeader]byte
	forYamux   []byte // the part of header that yamux has still to read

	// updateAfter is how many consumed bytes of a stream yamux's window update
	// tells of at once.
	updateAfter int

	buffersMu sync.Mutex
	buffers   map[uint32]*receiveBuffer // of the streams that yamux has; nil when the link is over

	bulk chan struct{} // capacity 1: holds a value while a bulk writer has its turn
}

// Close is called by yamux. Unless the session is being closed, yamux has found
// fault with the peer's frames.
func (a *adapter) Close() error {
	a.link.Fail(link.ProtocolError("the yamux frames make no sense"))
	a.end()
	return nil
}

// end tells the streams that the link is over.
func (a *adapter) end() {
	a.onEnd()
	a.buffersMu.Lock()
	buffers := a.buffers
	a.buffers = nil
	a.buffersMu.Unlock()
	for _, b := range buffers {
		b.stop()
	}
}

// addBuffer makes the receive buffer of a stream that opens. It reports false if
// there is one: the stream of that id is not closed here yet, although yamux,
// for which a reset is enough, may have forgotten it. Two streams must not share
// a buffer.
func (a *adapter) addBuffer(stream uint32) bool {
	a.buffersMu.Lock()
	defer a.buffersMu.Unlock()
	if a.buffers[stream] != nil {
		return false
	}
	if a.buffers != nil {
		a.buffers[stream] = newReceiveBuffer(a.allowanceOf(stream), &a.memory)
	}
	return true
}

// allowanceOf is what the peer may send on a new stream. What comes on the control
// stream is read at once.
func (a *adapter) allowanceOf(stream uint32) int64 {
	if stream == controlStream {
		return math.MaxInt64
	}
	return a.allowance
}

// endBuffer ends the receive buffer of a stream on which nothing more comes.
func (a *adapter) endBuffer(stream uint32) {
	a.buffersMu.Lock()
	defer a.buffersMu.Unlock()
	if b := a.buffers[stream]; b != nil && b.end() {
		delete(a.buffers, stream)
	}
}

// closeBuffer discards what has come for a stream, and what will come.
func (a *adapter) closeBuffer(stream uint32, b *receiveBuffer) {
	a.buffersMu.Lock()
	defer a.buffersMu.Unlock()
	unread, ended := b.close()
	a.unread.Add(int64(-unread))
	if ended {
		delete(a.buffers, stream)
	}
}

// buffer returns the receive buffer of a stream, or nil.
func (a *adapter) buffer(stream uint32) *receiveBuffer {
	a.buffersMu.Lock()
	defer a.buffersMu.Unlock()
	return a.buffers[stream]
}

// reader returns the reader of a stream that yamux has.
func (a *adapter) reader(stream uint32) streamReader {
	b := a.buffer(stream)
	if b == nil { // the link is over
		b = newReceiveBuffer(0, &a.memory)
		b.stop()
	}
	return streamReader{adapter: a, stream: stream, in: b}
}

// streamReader reads a receive buffer, and keeps the session's count of unread
// bytes and yamux's count of what the peer may send. One goroutine uses it.
type streamReader struct {
	adapter *adapter
	stream  uint32
	in      *receiveBuffer
	read    int // bytes since yamux's last window update
}

func (r *streamReader) Read(p []byte) (int, error) {
	b, err := r.in.view(len(p))
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.take(n)
	return n, nil
}

// take removes n bytes that in.view has shown.
func (r *streamReader) take(n int) {
	r.adapter.unread.Add(int64(-n))
	r.in.take(n)
	if r.read += n; r.read >= r.adapter.updateAfter {
		_ = r.adapter.writeWindowUpdate(r.stream, r.read) // fails with the link
		r.read = 0
	}
}
