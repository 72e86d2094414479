//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"unicode/utf8"
)

// The first byte of a frame (RFC 6455 section 5.2): flags and opcode.
const (
	fin  = 0x80
	rsv1 = 0x40
	rsv2 = 0x20
	rsv3 = 0x10

	opCont   = 0
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// frameKeys makes the mask of every frame different.
var frameKeys atomic.Uint32

// f returns a client's frame with the shortest encoding of the length.
func f(b0 byte, payload string) string {
	return string(appendFrame(nil, b0, []byte(payload)))
}

// appendFrame appends what f returns.
func appendFrame(b []byte, b0 byte, payload []byte) []byte {
	class := 8
	switch {
	case len(payload) <= 125:
		class = 0
	case len(payload) <= 0xffff:
		class = 2
	}
	b = appendHeader(b, b0, class, uint64(len(payload)), true)
	key := b[len(b)-4:]
	at := len(b)
	b = append(b, payload...)
	for i := range payload {
		b[at+i] ^= key[i&3]
	}
	return b
}

// appendHeader appends a header with length encoded in class bytes; 0 means the 7 bits.
func appendHeader(b []byte, b0 byte, class int, length uint64, masked bool) []byte {
	maskBit := byte(0)
	if masked {
		maskBit = 0x80
	}
	b = append(b, b0)
	switch class {
	case 0:
		b = append(b, maskBit|byte(length))
	case 2:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(length))
	case 8:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), length)
	}
	if masked {
		b = binary.BigEndian.AppendUint32(b, frameKeys.Add(0x9e3779b9))
	}
	return b
}

// announce returns a frame whose header announces length in class bytes, with only payload after
// it.
func announce(b0 byte, class int, length uint64, payload string) string {
	b := appendHeader(nil, b0, class, length, true)
	key := [4]byte(b[len(b)-4:])
	for i := range len(payload) {
		b = append(b, payload[i]^key[i&3])
	}
	return string(b)
}

// unmasked returns an unmasked frame, as servers send it.
func unmasked(b0 byte, payload string) string {
	return string(appendHeader(nil, b0, 0, uint64(len(payload)), false)) + payload
}

// closing returns a Close frame.
func closing(code int, reason string) string {
	return f(fin|opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// fragments returns a message with one frame for each part.
func fragments(op byte, parts ...string) string {
	var b []byte
	for i, p := range parts {
		b0 := byte(opCont)
		if i == 0 {
			b0 = op
		}
		if i == len(parts)-1 {
			b0 |= fin
		}
		b = appendFrame(b, b0, []byte(p))
	}
	return string(b)
}

// A wire is what carries WebSocket frames: a TCP connection, TLS, or a stream of HTTP/2. A deadline
// set at its creation bounds all operations.
type wire interface {
	io.ReadWriteCloser
	// CloseWrite ends the sending direction. Read returns io.EOF at the end of the other one.
	CloseWrite() error
	// Reset ends both directions at once, in a way that the other side can tell from a clean end.
	Reset()
}

// tcpWire is a wire over TCP or TLS.
type tcpWire struct {
	net.Conn
	in  *bufio.Reader // may have data that followed the handshake
	tcp *net.TCPConn
}

func (w *tcpWire) Read(p []byte) (int, error) { return w.in.Read(p) }

func (w *tcpWire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok && w.Conn != net.Conn(w.tcp) {
		if err := c.CloseWrite(); err != nil {
			return err
		}
	}
	return w.tcp.CloseWrite()
}

func (w *tcpWire) Reset() {
	w.tcp.SetLinger(0)
	w.tcp.Close()
}

// noStatus stands for a Close frame without a code.
const noStatus = 1005

// A peer is a client that can send anything and validates every frame it reads as RFC 6455 requires
// of a server. One goroutine uses it; another one may write.
type peer struct {
	wire
	in   *bufio.Reader
	text bool // expect text messages, else binary

	data   []byte             // payload of all data messages so far, unless onData is set
	onData func([]byte) error // called instead of appending to data
	pongs  []string           // payload of all pongs so far
	pings  int
	code   int    // status code of the Close frame, 0 before it
	reason string // of the Close frame
	inside bool   // within a message
	msg    []byte // text of the current message that is not validated yet
}

func newPeer(w wire, text bool) *peer {
	return &peer{wire: w, in: bufio.NewReaderSize(w, 16<<10), text: text}
}

// until reads frames until done returns true.
func (p *peer) until(done func() bool) error {
	for !done() {
		if p.code != 0 {
			return fmt.Errorf("the server closed with %d %q", p.code, p.reason)
		}
		if err := p.readFrame(); err != nil {
			return err
		}
	}
	return nil
}

// untilClose reads up to the Close frame and then to the end of the connection. Nothing may be in
// between.
func (p *peer) untilClose() error {
	if err := p.untilCloseFrame(); err != nil {
		return err
	}
	return p.untilEnd()
}

// untilAnswered is untilClose for a Close frame that the server sends first; it answers it.
func (p *peer) untilAnswered() error {
	if err := p.untilCloseFrame(); err != nil {
		return err
	}
	if err := p.write(closing(p.code, ""), 0); err != nil {
		return fmt.Errorf("answer the Close frame: %w", err)
	}
	return p.untilEnd()
}

func (p *peer) untilCloseFrame() error {
	return p.until(func() bool { return p.code != 0 })
}

// untilEnd reads the end of the connection after the Close frame.
func (p *peer) untilEnd() error {
	switch b, err := p.in.ReadByte(); {
	case err == nil:
		return fmt.Errorf("the byte %#x comes after the Close frame", b)
	case err != io.EOF:
		return fmt.Errorf("after the Close frame: %w", err)
	}
	return nil
}

// readFrame reads one frame.
func (p *peer) readFrame() error {
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(p.in, head); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the connection ends without a Close frame")
		}
		return err
	}
	op, last := head[0]&0x0f, head[0]&fin != 0
	switch {
	case head[0]&0x70 != 0:
		return fmt.Errorf("reserved bits are set in %#x", head[0])
	case head[1]&0x80 != 0:
		return errors.New("a server's frame is masked")
	case op > opBinary && op < opClose || op > opPong:
		return fmt.Errorf("unknown opcode %d", op)
	case op >= opClose && (!last || head[1] > 125):
		return fmt.Errorf("control frame %#x of length %d", head[0], head[1])
	case op == opCont && !p.inside:
		return errors.New("a continuation of nothing")
	case (op == opText || op == opBinary) && p.inside:
		return errors.New("a message inside a message")
	case op == opText && !p.text, op == opBinary && p.text:
		return fmt.Errorf("data in a message of type %d", op)
	}
	length := uint64(head[1])
	if n := map[byte]int{126: 2, 127: 8}[head[1]]; n > 0 {
		ext := head[:n]
		if _, err := io.ReadFull(p.in, ext); err != nil {
			return err
		}
		least := uint64(126)
		if n == 2 {
			length = uint64(binary.BigEndian.Uint16(ext))
		} else {
			length, least = binary.BigEndian.Uint64(ext), 0x10000
		}
		if length < least || length > 1<<40 {
			return fmt.Errorf("length %d in %d bytes", length, n)
		}
	}
	if op < opClose {
		p.inside = !last
		return p.readData(length, last)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(p.in, payload); err != nil {
		return err
	}
	switch op {
	case opPing:
		p.pings++
	case opPong:
		p.pongs = append(p.pongs, string(payload))
	case opClose:
		return p.closed(payload)
	}
	return nil
}

// readData reads the payload of a data frame.
func (p *peer) readData(length uint64, last bool) error {
	for length > 0 {
		if _, err := p.in.Peek(1); err != nil {
			return err
		}
		b, _ := p.in.Peek(int(min(length, uint64(p.in.Buffered()))))
		if p.text {
			p.msg = append(p.msg, b...)
		}
		if p.onData == nil {
			p.data = append(p.data, b...)
		} else if err := p.onData(b); err != nil {
			return err
		}
		length -= uint64(len(b))
		p.in.Discard(len(b))
	}
	if last {
		if !utf8.Valid(p.msg) {
			return fmt.Errorf("text message that is not UTF-8: %.50q", p.msg)
		}
		p.msg = p.msg[:0]
	}
	return nil
}

func (p *peer) closed(payload []byte) error {
	switch {
	case len(payload) == 0:
		p.code = noStatus
	case len(payload) == 1:
		return errors.New("a Close frame of one byte")
	default:
		p.code, p.reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
		if !closeCodeAllowed(p.code) || !utf8.ValidString(p.reason) {
			return fmt.Errorf("a Close frame with %d %q", p.code, p.reason)
		}
	}
	return nil
}

func closeCodeAllowed(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

// write writes b in pieces of chop bytes, 0 for all at once.
func (p *peer) write(b string, chop int) error {
	if chop == 0 {
		chop = max(len(b), 1)
	}
	for piece := range slices.Chunk([]byte(b), chop) {
		if _, err := p.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// bye closes with 1000, which the server must answer with 1000 and the end of the connection.
func (p *peer) bye() error {
	if err := p.write(closing(1000, ""), 0); err != nil {
		return err
	}
	if err := p.untilClose(); err != nil {
		return fmt.Errorf("after Close 1000: %w", err)
	}
	if p.code != 1000 {
		return fmt.Errorf("Close 1000 is answered with %d %q", p.code, p.reason)
	}
	return nil
}

// roundTrip sends text as a binary message and waits until the backend has returned it after all
// other data.
func (p *peer) roundTrip(text string) error {
	seen := len(p.data)
	if err := p.write(f(fin|opBinary, text), 0); err != nil {
		return err
	}
	if err := p.until(func() bool { return len(p.data) >= seen+len(text) }); err != nil {
		return err
	}
	if !bytes.Equal(p.data[seen:], []byte(text)) {
		return fmt.Errorf("%.50q comes back as %.50q", text, p.data[seen:])
	}
	return nil
}
