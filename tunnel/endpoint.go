package tunnel

import (
	"io"
	"time"
)

// An Endpoint is one side of a relay: a socket (NewSocket), a stream of a session, a WebSocket. What
// it can do besides, it may say by a method
//
//	Capabilities() Capabilities
//
// which Relay calls once, before anything else. A type that embeds an Endpoint and changes what a
// method does has to change its Capabilities with it.
type Endpoint interface {
	io.Reader // io.EOF only when the peer ended its direction well
	io.Writer
	// CloseWrite ends our direction well; the other one goes on.
	CloseWrite() error
	// Abort ends the connection at once, in both directions, and so that the peer sees a reset where
	// the transport has such a thing. It unblocks Read and Write, and may be called more than once
	// and with Close.
	Abort()
	// Close gives the endpoint back when both directions have ended.
	Close() error
}

// Capabilities are what an Endpoint can do for a relay besides the methods that each Endpoint has.
// Nil functions and the zero value of the others are capabilities that it does not have; the relay
// works without any.
type Capabilities struct {
	// Reading. One goroutine at a time calls these and Read.

	// ReadBuffer is Read, of at most size bytes, into a buffer that is taken when there is something
	// to read: an idle relay then holds none. The buffer is nil when nothing was read, and otherwise
	// the caller's to free.
	ReadBuffer func(size int) (b *Buffer, n int, err error)
	// ReadNow is ReadBuffer without waiting: there is neither a buffer nor an error when there is
	// nothing to read.
	ReadNow func(size int) (b *Buffer, n int, err error)
	// WaitReadable blocks until Read returns data or an error at once. Without ReadBuffer, it keeps
	// an idle relay from holding a buffer.
	WaitReadable func() error
	// Await has ready called in a goroutine of its own, once, as soon as Read returns data or an
	// error at once, or reports false if that is so already. While the endpoint is idle, the relay
	// then has no goroutine that waits for it.
	Await func(ready func()) bool
	// View returns, after waiting, some of the data that Read would return, and Take removes n bytes
	// of it: the relay then needs no buffer. Both or neither must be set.
	View func() ([]byte, error)
	Take func(n int)

	// Writing. One goroutine at a time calls these and Write.

	// Room is how many bytes are best written at once now.
	Room func() int
	// WriteBuffer writes b[Headroom:] and uses the rest of b as scratch space.
	WriteBuffer func(b []byte) (int, error)
	// Headroom is what WriteBuffer needs, at most BufferHeadroom bytes; otherwise it is not used.
	Headroom int
	// WriteOwned writes the n bytes of data that b holds, and takes b over (see Buffer).
	WriteOwned func(b *Buffer, n int) (int, error)
	// WriteFrom waits until more may be written, has read return it without waiting (as ReadNow
	// does), and writes that. All results are zero when there was nothing to read, or when a Write
	// would wait for the peer. Data that waits to be written then waits in the socket that it is read
	// from, and not in a buffer.
	WriteFrom func(read func(size int) (*Buffer, int, error)) (n int, readErr, writeErr error)

	// Ends. Any goroutine may call these.

	// Watch registers two functions. gone is called once when the endpoint has ended other than well
	// (at once, if it has already), before writes fail for it. blocked, which may be nil, is called
	// now and then while a Write waits; its error ends the Write.
	Watch func(gone func(), blocked func() error)
	// Alive returns an error if the connection is known to be reset. It does not read from it.
	Alive func() error
	// WaitReset blocks, after the end has been read, until the connection is reset. It returns nil
	// when it is closed, or by StopReading.
	WaitReset func() error
	// StopReading makes reads and WaitReset return at once, and StopWritingAfter makes writes fail
	// after d.
	StopReading      func()
	StopWritingAfter func(d time.Duration)
}

// capabilitiesOf returns the capabilities of e, without those that cannot be used.
func capabilitiesOf(e Endpoint) Capabilities {
	var c Capabilities
	if e, ok := e.(interface{ Capabilities() Capabilities }); ok {
		c = e.Capabilities()
	}
	if c.WriteBuffer == nil || c.Headroom > BufferHeadroom {
		c.WriteBuffer, c.Headroom = e.Write, 0
	}
	return c
}
