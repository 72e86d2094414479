//go:build unix

package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestSocketWaitReset(t *testing.T) {
	s, peer := socketPair(t, "tcp")
	peer.CloseWrite()
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.WaitReset() }()
	vanish(peer)
	if err := inTime(t, "WaitReset", func() error { return <-waiting }); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	s, peer = socketPair(t, "tcp")
	peer.CloseWrite()
	s.SetReadDeadline(time.Unix(1, 0))
	if err := inTime(t, "WaitReset", s.WaitReset); err != nil {
		t.Fatal(err)
	}
	// Over a connection that is not a socket, WaitReset returns nil at once.
	s, _ = socketPair(t, "tcp")
	if err := NewSocket(tls.Client(s.Conn, &tls.Config{InsecureSkipVerify: true})).WaitReset(); err != nil {
		t.Fatal(err)
	}
}

func TestSocketReadNow(t *testing.T) {
	s, peer := socketPair(t, "tcp")
	if b, n, err := s.ReadNow(BufferSize); b != nil || n != 0 || err != nil {
		t.Fatalf("of nothing: %d bytes, %v", n, err)
	}
	peer.Write([]byte("ab"))
	peer.CloseWrite()
	got := ""
	err := inTime(t, "ReadNow", func() error {
		for {
			b, n, err := s.ReadNow(1)
			if err != nil {
				return err
			}
			if n > 0 {
				got += string(b.Bytes[BufferHeadroom : BufferHeadroom+n])
				b.Free()
			}
		}
	})
	if got != "ab" || err != io.EOF {
		t.Fatalf("%q, then %v", got, err)
	}
	s.SetReadDeadline(time.Unix(1, 0))
	if b, _, err := s.ReadNow(1); b != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after the deadline: %v", err)
	}
	s.Close()
	if b, _, err := s.ReadNow(1); b != nil || err == nil || err == io.EOF {
		t.Fatalf("of a closed connection: %v", err)
	}
	// Over a connection that is not a socket, ReadNow reads nothing.
	s, _ = socketPair(t, "tcp")
	if b, _, err := NewSocket(tls.Client(s.Conn, &tls.Config{InsecureSkipVerify: true})).ReadNow(1); b != nil || err != nil {
		t.Fatal(err)
	}
}
