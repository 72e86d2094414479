package mux

import (
	"context"
	"errors"
	"testing"
)

// A reset travels beside its stream and may arrive before the stream has been
// accepted. It must not be lost, or the acceptor would dial a target that is not wanted.
func TestResetBeforeAccept(t *testing.T) {
	client, server := newPair(t, nil)
	near, err := client.Open(context.Background(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	id := near.yamux.StreamID()
	near.Reset(Forbidden)
	eventually(t, "the reset has arrived", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return server.early[0] == earlyReset{id, Forbidden}
	})
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	gone := false
	far.Watch(func() { gone = true }, nil)
	var reset *ResetError
	if err := far.CloseWrite(); !gone || !errors.As(err, &reset) || reset.Code != Forbidden {
		t.Errorf("gone %v, error %v", gone, err)
	}
	near.Close()
}

// The end of a stream may arrive before the reason for it on the control stream.
func TestReasonBehindTheEnd(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	far.yamux.Close() // an end without a marker, and at first without a reason
	read := make(chan error, 1)
	go func() {
		_, err := near.Read(make([]byte, 1))
		read <- err
	}()
	far.Reset(Busy)
	defer far.Close()
	var reset *ResetError
	if err := <-read; !errors.As(err, &reset) || reset.Code != Busy {
		t.Errorf("read ended with %v", err)
	}
}
