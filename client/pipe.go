package client

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// noReaderInterval is how often awaitNoReader checks whether out has a reader.
const noReaderInterval = 250 * time.Millisecond

var errNoReader = errors.New("the output has no reader")

// pipe makes one end of a relay from a reader and a writer that have no
// deadlines. Abort makes a pending Read return, but cannot interrupt a Write, and
// leaves out open.
type pipe struct {
	chunks  chan []byte // sent by the goroutine in read, which closes it at the end
	readErr error       // set before chunks is closed
	aborted chan struct{}
	abort   sync.Once

	// Belongs to the goroutine that calls Read.
	unread []byte // the rest of a chunk

	out      io.WriteCloser
	closeOut sync.Once
	outErr   error // of closing out
}

func newPipe(out io.WriteCloser) *pipe {
	return &pipe{out: out, chunks: make(chan []byte), aborted: make(chan struct{})}
}

// read reads in until it ends, or the first Read that returns after Abort. While
// Read uses one of the two buffers, it fills the other: a chunk is sent only
// when the one before it is used up.
func (p *pipe) read(in io.Reader) {
	defer close(p.chunks)
	var bufs [2][32 << 10]byte
	for i := 0; ; i ^= 1 {
		n, err := in.Read(bufs[i][:])
		if n > 0 {
			select {
			case p.chunks <- bufs[i][:n]:
			case <-p.aborted:
				return
			}
		}
		if err != nil {
			p.readErr = err
			return
		}
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.unread) == 0 {
		select {
		case chunk, ok := <-p.chunks:
			if !ok {
				return 0, p.readErr
			}
			p.unread = chunk
		case <-p.aborted:
			return 0, os.ErrClosed
		}
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.out.Write(b)
	if err != nil {
		err = &outputError{err}
	}
	return n, err
}

func (p *pipe) Close() error { p.Abort(); return nil }

func (p *pipe) CloseWrite() error {
	p.closeOut.Do(func() { p.outErr = p.out.Close() })
	return p.outErr
}

func (p *pipe) Abort() { p.abort.Do(func() { close(p.aborted) }) }

// awaitNoReader waits until out, a pipe or a socket, has no reader, and returns
// true. It returns false at once if the system cannot tell, and after Abort.
func (p *pipe) awaitNoReader() bool {
	file, ok := p.out.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return false
	}
	ticker := time.NewTicker(noReaderInterval)
	defer ticker.Stop()
	for {
		gone := false
		if raw.Control(func(fd uintptr) { gone = hasNoReader(fd) }) != nil {
			return false
		}
		if gone {
			return true
		}
		select {
		case <-ticker.C:
		case <-p.aborted:
			return false
		}
	}
}

// readerGone reports whether err says that a pipe's output has no reader.
func readerGone(err error) bool {
	var write *outputError
	return errors.Is(err, errNoReader) ||
		errors.As(err, &write) && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
}

// outputError is an error of writing to a pipe's output. A stream's error may
// also be EPIPE.
type outputError struct{ error }

func (e *outputError) Unwrap() error { return e.error }
