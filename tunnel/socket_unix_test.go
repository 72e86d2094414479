//go:build unix

package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
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
	if err := soon(t, "WaitReset", func() error { return <-waiting }); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	s, peer = socketPair(t, "tcp")
	peer.CloseWrite()
	s.SetReadDeadline(time.Unix(1, 0))
	if err := soon(t, "WaitReset", s.WaitReset); err != nil {
		t.Fatal(err)
	}
	// What is no socket cannot tell.
	s, _ = socketPair(t, "tcp")
	if err := NewSocket(tls.Client(s.Conn, &tls.Config{InsecureSkipVerify: true})).WaitReset(); err != nil {
		t.Fatal(err)
	}
}
