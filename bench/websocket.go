//go:build linux

package main

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A webSocket is a client of a route that masks with a random key, as browsers do. It does not use
// adit's code, so that a bug there cannot hide here.
type webSocket struct {
	net.Conn
	in   *bufio.Reader
	left uint64 // payload bytes of the current frame that were not read
	key  [4]byte
	out  []byte
}

const (
	opContinuation = 0
	opBinary       = 2
	opPing         = 9
	opPong         = 10
	frameFin       = 0x80
	frameMasked    = 0x80
	frameBuffer    = 256 << 10
)

// dialRoute opens a WebSocket at a path of a server, over TLS unless config is nil.
func dialRoute(addr, path string, config *tls.Config) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	if config != nil {
		conn = tls.Client(conn, config)
	}
	w := &webSocket{Conn: conn, in: bufio.NewReaderSize(conn, frameBuffer)}
	rand.Read(w.key[:])
	if err := w.upgrade(addr, path); err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade to a WebSocket: %w", err)
	}
	conn.SetDeadline(time.Time{})
	return w, nil
}

func (w *webSocket) upgrade(host, path string) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	if _, err := fmt.Fprintf(w.Conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: binary\r\n\r\n",
		path, host, base64.StdEncoding.EncodeToString(nonce[:])); err != nil {
		return err
	}
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the answer is %s", response.Status)
	}
	return nil
}

// Write sends p as one binary message.
func (w *webSocket) Write(p []byte) (int, error) { return len(p), w.frame(opBinary, p) }

func (w *webSocket) frame(op byte, p []byte) error {
	w.out = append(w.out[:0], frameFin|op)
	switch n := len(p); {
	case n < 126:
		w.out = append(w.out, frameMasked|byte(n))
	case n < 1<<16:
		w.out = binary.BigEndian.AppendUint16(append(w.out, frameMasked|126), uint16(n))
	default:
		w.out = binary.BigEndian.AppendUint64(append(w.out, frameMasked|127), uint64(n))
	}
	w.out = append(w.out, w.key[:]...)
	start := len(w.out)
	w.out = append(w.out, p...)
	mask(w.out[start:], w.key)
	_, err := w.Conn.Write(w.out)
	return err
}

// mask masks b, the payload of a frame, eight bytes at a time.
func mask(b []byte, key [4]byte) {
	word := uint64(binary.NativeEndian.Uint32(key[:]))
	word |= word << 32
	for ; len(b) >= 8; b = b[8:] {
		binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)^word)
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// Read reads the payload of binary messages.
func (w *webSocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		if err := w.header(); err != nil {
			return 0, err
		}
	}
	n, err := w.in.Read(p[:min(uint64(len(p)), w.left)])
	w.left -= uint64(n)
	return n, err
}

// header reads frames up to the header of the next data frame, and answers pings.
func (w *webSocket) header() error {
	var h [8]byte
	if _, err := io.ReadFull(w.in, h[:2]); err != nil {
		return err
	}
	op, n := h[0]&0xf, uint64(h[1])
	switch n {
	case 126:
		if _, err := io.ReadFull(w.in, h[:2]); err != nil {
			return err
		}
		n = uint64(binary.BigEndian.Uint16(h[:2]))
	case 127:
		if _, err := io.ReadFull(w.in, h[:8]); err != nil {
			return err
		}
		n = binary.BigEndian.Uint64(h[:8])
	}
	switch op {
	case opBinary, opContinuation:
		w.left = n
		return nil
	case opPing:
		payload := make([]byte, min(n, 125))
		if _, err := io.ReadFull(w.in, payload); err != nil {
			return err
		}
		return w.frame(opPong, payload)
	}
	return fmt.Errorf("a frame with the opcode %d: %w", op, io.ErrUnexpectedEOF)
}
