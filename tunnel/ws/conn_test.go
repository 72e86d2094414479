package ws

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// watchdog bounds everything that a test waits for. No test passes by it.
const watchdog = 30 * time.Second

// A side is our role in a test; the test plays the other role with raw bytes.
type side struct {
	name   string
	client bool
}

var bothSides = []side{{"server", false}, {"client", true}}

// tcpPair returns both ends of a loopback TCP connection. The first belongs to the test and has a deadline.
func tcpPair(t testing.TB) (raw, ours *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		a.Close()
		t.Fatal(err)
	}
	a.SetDeadline(time.Now().Add(watchdog))
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// start returns a Conn and the raw connection to it.
func (s side) start(t testing.TB, opts Options) (raw *net.TCPConn, c *Conn) {
	t.Helper()
	raw, nc := tcpPair(t)
	c = newConn(nc, nil, s.client, false, opts)
	timeout := time.AfterFunc(watchdog, func() { c.CloseNow() })
	t.Cleanup(func() {
		timeout.Stop()
		c.CloseNow()
	})
	return raw, c
}

// frame returns a frame as our peer would send it.
func (s side) frame(first byte, payload string) []byte {
	return makeFrame(first, []byte(payload), !s.client)
}

func makeFrame(first byte, payload []byte, masked bool) []byte {
	b := []byte{first}
	var bit byte
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, bit|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if !masked {
		return append(b, payload...)
	}
	var key [4]byte
	rand.Read(key[:])
	b = append(b, key[:]...)
	for i, x := range payload {
		b = append(b, x^key[i%4])
	}
	return b
}

// A rawFrame is a frame that we sent.
type rawFrame struct {
	first   byte
	payload string
}

// readFrame reads a frame that we sent, and fails if it is not masked according to our role.
func (s side) readFrame(t testing.TB, r io.Reader) (rawFrame, error) {
	t.Helper()
	var b [8]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return rawFrame{}, err
	}
	f := rawFrame{first: b[0]}
	if masked := b[1]&0x80 != 0; masked != s.client {
		t.Fatalf("%s sent a frame with masked = %v", s.name, masked)
	}
	n := int(b[1] & 0x7f)
	switch n {
	case 126:
		io.ReadFull(r, b[:2])
		n = int(binary.BigEndian.Uint16(b[:]))
	case 127:
		io.ReadFull(r, b[:8])
		n = int(binary.BigEndian.Uint64(b[:]))
	}
	var key [4]byte
	if s.client {
		io.ReadFull(r, key[:])
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return rawFrame{}, err
	}
	for i := range p {
		p[i] ^= key[i%4]
	}
	f.payload = string(p)
	return f, nil
}

// mustFrame is readFrame, and fails the test on an error.
func (s side) mustFrame(t testing.TB, r io.Reader) rawFrame {
	t.Helper()
	f, err := s.readFrame(t, r)
	if err != nil {
		t.Fatalf("reading a frame: %v", err)
	}
	return f
}

func closeBody(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// A message is a message that was read.
type message struct {
	op      Opcode
	payload string
	whole   bool // it was read to its end
}

// readAll reads messages until an error, with reads of the given size.
func readAll(c *Conn, size int) (all []message, err error) {
	p := make([]byte, size)
	for {
		op, err := c.NextMessage()
		if err != nil {
			return all, err
		}
		all = append(all, message{op: op})
		m := &all[len(all)-1]
		var b bytes.Buffer
		for {
			n, err := c.Read(p)
			b.Write(p[:n])
			if err == io.EOF {
				m.whole = true
				break
			}
			if err != nil {
				m.payload = b.String()
				return all, err
			}
		}
		m.payload = b.String()
	}
}

// endOf returns the code of a CloseError, the negative code of a ProtocolError, or 0 for other errors.
func endOf(err error) int {
	var closed *CloseError
	var fault *ProtocolError
	switch {
	case errors.As(err, &closed):
		return int(closed.Code)
	case errors.As(err, &fault):
		return -int(fault.Code)
	}
	return 0
}

func errorAs[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}
