package mux

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"

	"adit/tunnel"
)

// workedExample reads the hex lines of docs/protocol.md: what each side's
// hello is, and the bytes of each side's part of the link's stream.
func workedExample(t *testing.T) (hello, stream map[string][]byte) {
	t.Helper()
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "TestWorkedExample")
	if !ok {
		t.Fatal("docs/protocol.md has no worked example")
	}
	_, text, _ = strings.Cut(text, "```\n")
	text, _, _ = strings.Cut(text, "```")
	hello, stream = map[string][]byte{}, map[string][]byte{}
	side := ""
	for line := range strings.Lines(text) {
		if line[0] != ' ' {
			side, _, _ = strings.Cut(line, " ")
			line = strings.Repeat(" ", len(side)) + line[len(side):]
		}
		label := strings.TrimSpace(line[:min(16, len(line))])
		field := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), label))[0]
		b, err := hex.DecodeString(strings.ReplaceAll(field, "·", ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch {
		case label == "hello":
			hello[side] = b
		case label == "data":
			if len(b) != 1+ackSize {
				t.Fatalf("%q is not the head of a data message", line)
			}
		default:
			stream[side] = append(stream[side], b...)
		}
	}
	return hello, stream
}

// TestWorkedExample plays the example's server by hand against a real client.
func TestWorkedExample(t *testing.T) {
	hello, stream := workedExample(t)
	cc, sc := newConns(t)
	t.Cleanup(func() { sc.CloseNow() })
	sent := make(chan []byte, 1)
	go func() {
		defer close(sent)
		sc.NextMessage()
		got, _ := io.ReadAll(sc)
		if !bytes.Equal(got, hello["client"]) {
			t.Errorf("client's hello is %x, the document says %x", got, hello["client"])
		}
		sc.WriteMessage(tunnel.OpBinary, hello["server"])
		var all []byte
		for len(all) < len(stream["client"]) {
			if _, err := sc.NextMessage(); err != nil {
				t.Error(err)
				return
			}
			m, _ := io.ReadAll(sc)
			if messageType(m[0]) == messageData {
				all = append(all, m[1+ackSize:]...)
			}
		}
		sc.WriteMessage(tunnel.OpBinary, append([]byte{byte(messageData), 0, 0, 0, 0, 0, 0, 0, byte(len(all))}, stream["server"]...))
		sent <- all
	}()

	session, err := Client(context.Background(), cc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	st, err := session.Open(context.Background(), Target{TCP, "127.0.0.1:22"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if got := <-sent; !bytes.Equal(got, stream["client"]) {
		t.Errorf("the client's stream is\n%x, the document says\n%x", got, stream["client"])
	}
	if got, err := io.ReadAll(st); string(got) != "ok" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
