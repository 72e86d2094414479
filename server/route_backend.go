package server

import (
	"errors"
	"io"
	"syscall"

	"adit/tunnel"
)

// backendEnd is a relay's end at the backend. It makes sure that the last data of
// the backend reaches the client even if the backend no longer accepts data.
type backendEnd struct {
	*tunnel.Socket
	failed     func(error) // called when reading or writing fails
	discarding bool        // the backend takes no more data; only the writer uses it
}

// Capabilities are those of Socket, except that reads report their failures.
func (e *backendEnd) Capabilities() tunnel.Capabilities {
	c := e.Socket.Capabilities()
	c.ReadBuffer, c.ReadNow = e.ReadBuffer, nil
	return c
}

// Read is that of Socket.
func (e *backendEnd) Read(p []byte) (int, error) {
	n, err := e.Socket.Read(p)
	return n, e.note(err)
}

// ReadBuffer is that of Socket.
func (e *backendEnd) ReadBuffer(size int) (*tunnel.Buffer, int, error) {
	b, n, err := e.Socket.ReadBuffer(size)
	return b, n, e.note(err)
}

func (e *backendEnd) note(err error) error {
	if err != nil && err != io.EOF {
		e.failed(err)
	}
	return err
}

// Write discards data for a backend that has closed or reset its connection.
// The backend's own data may not all be read yet, and the end of it tells how the
// connection ended.
func (e *backendEnd) Write(p []byte) (int, error) {
	if e.discarding {
		return len(p), nil
	}
	n, err := e.Socket.Write(p)
	if err != nil && isGone(err) {
		e.discarding = true
		return len(p), nil
	}
	return n, e.note(err)
}

// CloseWrite is that of Socket, but succeeds for a closed connection.
func (e *backendEnd) CloseWrite() error {
	if err := e.Socket.CloseWrite(); err != nil && !isGone(err) {
		return e.note(err)
	}
	return nil
}

// isGone reports whether the peer has closed or reset the connection.
func isGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN)
}
