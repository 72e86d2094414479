//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"adit/internal/testnet"
)

// A webSocket masks what it sends, answers pings and reads frames of every length.
func TestWebSocket(t *testing.T) {
	sizes := []int{1, 125, 126, 1<<16 - 1, 1 << 16}
	masked := make(chan error, 1)
	addr := testnet.Serve(t, func(c net.Conn) {
		masked <- func() error {
			buf := make([]byte, 4096)
			if _, err := c.Read(buf); err != nil {
				return err
			}
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			c.Write([]byte{frameFin | opPing, 2, 'h', 'i'})
			for _, n := range sizes {
				h := []byte{frameFin | opBinary}
				switch {
				case n < 126:
					h = append(h, byte(n))
				case n < 1<<16:
					h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
				default:
					h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
				}
				c.Write(append(h, noise[:n]...))
			}
			pong := make([]byte, 8)
			if _, err := io.ReadFull(c, pong); err != nil {
				return err
			}
			key := [4]byte(pong[2:6])
			mask(pong[6:], key)
			if pong[0] != frameFin|opPong || pong[1] != frameMasked|2 || string(pong[6:]) != "hi" {
				return fmt.Errorf("the answer to a ping is % x", pong)
			}
			frame := make([]byte, 4+4+1000)
			if _, err := io.ReadFull(c, frame); err != nil {
				return err
			}
			mask(frame[8:], [4]byte(frame[4:8]))
			if frame[0] != frameFin|opBinary || frame[1] != frameMasked|126 || string(frame[8:]) != string(noise[:1000]) {
				return fmt.Errorf("a message begins with % x", frame[:8])
			}
			return nil
		}()
	})
	ws, err := dialRoute(addr, "/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for _, n := range sizes {
		got := make([]byte, n)
		if _, err := io.ReadFull(ws, got); err != nil || string(got) != string(noise[:n]) {
			t.Fatalf("a frame of %d bytes: %v", n, err)
		}
	}
	if n, err := ws.Write(noise[:1000]); n != 1000 || err != nil {
		t.Errorf("Write returns %d, %v", n, err)
	}
	if err := <-masked; err != nil {
		t.Error(err)
	}
}
