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

// input takes the stream for the backend out of a client's messages.
type input interface {
	// wait blocks, without much memory, until read has something to say.
	wait() error
	// read is io.Reader's, but for io.EOF, which does not occur. Behind a wait it
	// does not block, and may give nothing: then there is more to wait for.
	read(p []byte) (int, error)
}

// output puts what the backend sends into messages.
type output interface {
	// headroom is what write needs in front of the data, in bytes.
	headroom() int
	// write sends b[headroom():].
	write(b []byte) error
	// end is called behind the last write, and tells whether the data may end
	// there.
	end() error
}

// framing is how a connection carries data: its subprotocol decides, or else
// the route.
func framing(conn *ws.Conn, text bool) (input, output) {
	switch {
	case conn.Subprotocol() == "base64":
		return &base64Input{conn: conn}, base64Output{conn}
	case text && conn.Subprotocol() != "binary":
		return streamInput{conn}, &textOutput{conn: conn}
	}
	return streamInput{conn}, binaryOutput{conn}
}

// streamInput is the payload of all messages, of either type.
type streamInput struct{ conn *ws.Conn }

func (in streamInput) wait() error                { return in.conn.WaitStream() }
func (in streamInput) read(p []byte) (int, error) { return in.conn.ReadStream(p) }

// binaryOutput makes a binary message of each write.
type binaryOutput struct{ conn *ws.Conn }

func (out binaryOutput) headroom() int        { return out.conn.Headroom() }
func (out binaryOutput) write(b []byte) error { return out.conn.WriteBuffer(ws.OpBinary, b) }
func (out binaryOutput) end() error           { return nil }

// textOutput makes a text message of each write, except that a code point
// whose end has not come yet waits for the next one.
type textOutput struct {
	conn   *ws.Conn
	cutter ws.TextCutter
}

// maxHeld is the longest beginning of a code point.
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

// errBase64 reports a message that is not base64.
var errBase64 = errors.New("a message is not base64")

// base64Input decodes messages of either type, each of which is encoded for
// itself (RFC 4648 section 4, with padding, without line breaks). It decodes
// as the bytes arrive.
type base64Input struct {
	conn   *ws.Conn
	inside bool    // of a message
	part   [4]byte // the beginning of a group of four
	n      int
	padded bool // the message may not go on
}

func (in *base64Input) wait() error {
	if err := in.enter(); err != nil {
		return err
	}
	return in.conn.WaitMessage()
}

// enter goes to the next message where the last one has ended.
func (in *base64Input) enter() error {
	if in.inside {
		return nil
	}
	_, err := in.conn.NextMessage()
	in.inside = err == nil
	return err
}

func (in *base64Input) read(p []byte) (int, error) {
	// Three sevenths for the data and four for their encoding.
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
		return 0, fmt.Errorf("%w: it goes on behind its padding", errBase64)
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

// base64Output makes text messages, each encoded for itself.
type base64Output struct{ conn *ws.Conn }

// base64Piece is how much data a message has at most: a multiple of three.
const base64Piece = 24 << 10

const wsHeadroom = 14 // at least that of a Conn

var base64Buffers = sync.Pool{New: func() any { return new([wsHeadroom + base64Piece/3*4]byte) }}

func (out base64Output) headroom() int { return 0 }

func (out base64Output) write(b []byte) error {
	buf := base64Buffers.Get().(*[wsHeadroom + base64Piece/3*4]byte)
	defer base64Buffers.Put(buf)
	for len(b) > 0 {
		piece := b[:min(len(b), base64Piece)]
		b = b[len(piece):]
		front := out.conn.Headroom()
		base64.StdEncoding.Encode(buf[front:], piece)
		if err := out.conn.WriteBuffer(ws.OpText, buf[:front+base64.StdEncoding.EncodedLen(len(piece))]); err != nil {
			return err
		}
	}
	return nil
}

func (out base64Output) end() error { return nil }
