package ws

import (
	"errors"
	"fmt"
	"io"
)

// fill reads until at least n bytes are buffered.
func (c *Conn) fill(n int) error {
	for c.end-c.start < n {
		if c.start == c.end {
			c.start, c.end = 0, 0
			if len(c.buf) > readBufferSize {
				// newConn made it larger for bytes that came with the handshake.
				c.buf = make([]byte, readBufferSize)
			}
		} else if c.start+n > len(c.buf) {
			c.end = copy(c.buf, c.buf[c.start:c.end])
			c.start = 0
		}
		m, err := c.receive(c.buf[c.end:])
		if err != nil {
			return err
		}
		c.end += m
	}
	return nil
}

// receive reads at least one byte from the connection.
func (c *Conn) receive(p []byte) (int, error) {
	for range 100 {
		n, err := c.nc.Read(p)
		if n > 0 {
			// If an error came with the bytes, the next Read returns it again.
			c.touch()
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("websocket: connection ended without a close frame: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return 0, fmt.Errorf("websocket: reading: %w", err)
		}
	}
	return 0, fmt.Errorf("websocket: reading: %w", io.ErrNoProgress)
}
