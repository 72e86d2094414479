package server

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"

	"adit/tunnel/ws"
)

// input decodes the stream for the backend from a client's messages.
type input interface {
	// wait blocks until read has data or an error, without holding a buffer.
	wait() error
	// read is that of io.Reader, but never returns io.EOF. After wait it does
	// not block; if it returns 0 bytes, the caller has to wait again.
	read(p []byte) (int, error)
}

// output encodes the backend's data as messages.
type output interface {
	// headroom is how many bytes write needs before the data.
	headroom() int
	// write sends b[headroom():].
	write(b []byte) error
	// end is called after the last write. It returns an error if the data must
	// not end there.
	end() error
}

// framing returns how a connection carries data: the subprotocol decides, and
// without one text, the route's FrameType.
func framing(conn *ws.Conn, text bool) (input, output) {
	switch {
	case conn.Subprotocol() == "base64":
		return &base64Input{conn: conn}, base64Output{conn}
	case text && conn.Subprotocol() != "binary":
		return streamInput{conn}, &textOutput{conn: conn}
	}
	return streamInput{conn}, binaryOutput{conn}
}

// streamInput concatenates the payload of all messages, of either type.
type streamInput struct{ conn *ws.Conn }

func (in streamInput) wait() error                { return in.conn.WaitStream() }
func (in streamInput) read(p []byte) (int, error) { return in.conn.ReadStream(p) }

// binaryOutput sends each write as a binary message.
type binaryOutput struct{ conn *ws.Conn }

func (out binaryOutput) headroom() int        { return out.conn.Headroom() }
func (out binaryOutput) write(b []byte) error { return out.conn.WriteBuffer(ws.OpBinary, b) }
func (out binaryOutput) end() error           { return nil }

// textOutput sends each write as a text message. It keeps an incomplete code point
// at the end for the next message.
type textOutput struct {
	conn   *ws.Conn
	cutter ws.TextCutter
}

// maxHeld is the length of the longest incomplete code point, in bytes.
const maxHeld = 3

func (out *textOutput) headroom() int { return out.conn.Headroom() + maxHeld }

func (out *textOutput) write(b []byte) error {
	var held [maxHeld]byte
	n := out.cutter.Restore(held[:])
	begin := out.headroom() - n
	copy(b[begin:], held[:n])
	text, invalid := out.cutter.Cut(b[begin:])
	if len(text) > 0 {
		front := begin - out.conn.Headroom()
		if err := out.conn.WriteBuffer(ws.OpText, b[front:begin+len(text)]); err != nil {
			return err
		}
	}
	return invalid
}

func (out *textOutput) end() error { return out.cutter.End() }

// errBase64 says that a message is not base64.
var errBase64 = errors.New("a message is not base64")

// base64Input decodes messages of either type, each of which is encoded by itself
// (RFC 4648 section 4, with padding, without line breaks). It decodes as the bytes
// arrive.
type base64Input struct {
	conn   *ws.Conn
	inside bool    // a message
	part   [4]byte // an incomplete group of four characters
	n      int     // bytes in part
	padded bool    // the message has to end here
}

func (in *base64Input) wait() error {
	if err := in.enter(); err != nil {
		return err
	}
	return in.conn.WaitMessage()
}

// enter goes to the next message if the last one has ended.
func (in *base64Input) enter() error {
	if in.inside {
		return nil
	}
	_, err := in.conn.NextMessage()
	in.inside = err == nil
	return err
}

func (in *base64Input) read(p []byte) (int, error) {
	// Three sevenths of p hold the data, and four sevenths its encoding.
	at := len(p) / 7 * 3
	encoded := p[at+len(in.part):]
	if err := in.enter(); err != nil {
		return 0, err
	}
	k := copy(encoded, in.part[:in.n])
	m, err := in.conn.Read(encoded[k:])
	if err == io.EOF {
		if in.n > 0 {
			return 0, fmt.Errorf("%w: it ends inside a group of four", errBase64)
		}
		in.inside, in.padded = false, false
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	b := encoded[:k+m]
	whole := len(b) / 4 * 4
	n, err := in.decode(p, b[:whole])
	in.n = copy(in.part[:], b[whole:])
	return n, err
}

func (in *base64Input) decode(p, b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case in.padded:
		return 0, fmt.Errorf("%w: it continues after its padding", errBase64)
	case bytes.ContainsAny(b, "\r\n"):
		return 0, fmt.Errorf("%w: it has line breaks", errBase64)
	}
	n, err := base64.StdEncoding.Decode(p, b)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errBase64, err)
	}
	in.padded = b[len(b)-1] == '='
	return n, nil
}

// base64Output sends text messages, each encoded by itself.
type base64Output struct{ conn *ws.Conn }

// base64Chunk is how much data one message carries at most, in bytes: a multiple
// of three.
const base64Chunk = 24 << 10

// wsHeadroom is at least the Headroom of every connection.
const wsHeadroom = 14

var base64Buffers = sync.Pool{New: func() any { return new([wsHeadroom + base64Chunk/3*4]byte) }}

func (out base64Output) headroom() int { return 0 }

func (out base64Output) write(b []byte) error {
	buf := base64Buffers.Get().(*[wsHeadroom + base64Chunk/3*4]byte)
	defer base64Buffers.Put(buf)
	for len(b) > 0 {
		chunk := b[:min(len(b), base64Chunk)]
		b = b[len(chunk):]
		front := out.conn.Headroom()
		base64.StdEncoding.Encode(buf[front:], chunk)
		if err := out.conn.WriteBuffer(ws.OpText, buf[:front+base64.StdEncoding.EncodedLen(len(chunk))]); err != nil {
			return err
		}
	}
	return nil
}

func (out base64Output) end() error { return nil }
