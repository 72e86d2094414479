package mux

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"

	"adit/mux/link"
	"adit/tunnel/ws"
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
			if len(b) != 1+link.AckSize {
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
		sc.WriteMessage(ws.OpBinary, hello["server"])
		var all []byte
		for len(all) < len(stream["client"]) {
			if _, err := sc.NextMessage(); err != nil {
				t.Error(err)
				return
			}
			m, _ := io.ReadAll(sc)
			if link.MessageType(m[0]) == link.MessageData {
				all = append(all, m[1+link.AckSize:]...)
			}
		}
		sc.WriteMessage(ws.OpBinary, append([]byte{byte(link.MessageData), 0, 0, 0, 0, 0, 0, 0, byte(len(all))}, stream["server"]...))
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

// workedResumption reads the messages of the resumption in docs/protocol.md.
func workedResumption(t *testing.T) map[string][]byte {
	t.Helper()
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "TestWorkedResumption")
	if !ok {
		t.Fatal("docs/protocol.md has no worked resumption")
	}
	_, text, _ = strings.Cut(text, "```\n")
	text, _, _ = strings.Cut(text, "```")
	messages, name := map[string][]byte{}, ""
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if line[0] != ' ' {
			name, fields = fields[0]+" "+fields[1], fields[2:]
		}
		b, err := hex.DecodeString(strings.ReplaceAll(fields[0], "·", ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		messages[name] = append(messages[name], b...)
	}
	return messages
}

// TestWorkedResumption plays each side of the example by hand against the
// other.
func TestWorkedResumption(t *testing.T) {
	want := workedResumption(t)
	key := &sessionKey{}
	for i := range key.id {
		key.id[i] = byte(i)
	}
	for i := range key.secret {
		key.secret[i] = byte(0x20 + i)
	}
	message := func(conn *ws.Conn) []byte {
		t.Helper()
		if _, err := conn.NextMessage(); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	check := func(name string, got []byte) {
		t.Helper()
		if !bytes.Equal(got, want[name]) {
			t.Errorf("%s is\n%x, the document says\n%x", name, got, want[name])
		}
	}
	// start gives a session that has sent some bytes, and received others.
	start := func(conn, peer *ws.Conn, sends, gets string) (*Session, <-chan []byte) {
		s := bareSession(conn, key, modelSendBuffer)
		s.cfg = (*Config)(nil).withDefaults()
		t.Cleanup(func() { s.link.Close(); s.link.Wait() })
		s.link.Write([]byte(sends), nil)
		if _, data := nextData(t, peer); string(data) != sends {
			t.Fatalf("%q", data)
		}
		peer.WriteMessage(ws.OpBinary, dataMessage(0, []byte(gets)...))
		read := func(n int) []byte { b := make([]byte, n); io.ReadFull(s.link, b); return b }
		if got := read(len(gets)); string(got) != gets {
			t.Fatalf("%q", got)
		}
		rest := async(func() []byte { return read(3) })
		peer.CloseNow()
		await(t, "loss", s.Down())
		return s, rest
	}

	near, far := newConns(t)
	client, rest := start(near, far, "0123456789", "01234")
	near, far = newConns(t)
	done := async(func() error { _, err := client.Resume(context.Background(), near); return err })
	check("client hello", message(far))
	far.WriteMessage(ws.OpBinary, want["server hello"])
	if err := await(t, "resumption", done); err != nil {
		t.Fatal(err)
	}
	check("client data", message(far))
	far.WriteMessage(ws.OpBinary, want["server data"])
	if got := await(t, "the rest", rest); string(got) != "567" {
		t.Errorf("the client reads %q", got)
	}

	far, near = newConns(t)
	server, _ := start(near, far, "01234567", "012345")
	r := &SessionStore{sessions: map[sessionID]*Session{key.id: server}}
	far, near = newConns(t)
	done = async(func() error { _, _, err := r.Serve(context.Background(), near, "", nil, nil); return err })
	far.WriteMessage(ws.OpBinary, want["client hello"])
	check("server hello", message(far))
	if err := await(t, "resumption", done); err != nil {
		t.Fatal(err)
	}
	check("server data", message(far))
	server.link.Close()
}
