package ws

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// readStreamAll reads until the end, with WaitStream before each read if wait.
func readStreamAll(c *Conn, size int, wait bool) ([]byte, error) {
	var all []byte
	p := make([]byte, size)
	for {
		if wait {
			if err := c.WaitStream(); err != nil {
				return all, err
			}
		}
		n, err := c.ReadStream(p)
		all = append(all, p[:n]...)
		if err != nil {
			return all, err
		}
	}
}

func FuzzReadStream(f *testing.F) {
	for _, masked := range []bool{false, true} {
		var stream []byte
		for _, fr := range []struct {
			first byte
			p     string
		}{{fin | text, "hello"}, {bin, "a"}, {fin | ping, "p"}, {cont, ""}, {fin | cont, "b\xff"}, {text, "\xe2"}, {fin | cont, "\x82\xac"}, {fin | bin, strings.Repeat("0123456789", 420)}, {fin | ping, strings.Repeat("p", 125)}, {fin | closE, "\x03\xe8bye"}} {
			stream = append(stream, makeFrame(fr.first, []byte(fr.p), masked)...)
		}
		f.Add(stream, !masked, byte(0), byte(255), false)
		f.Add(stream, !masked, byte(1), byte(255), true)
		f.Add(stream, !masked, byte(200), byte(100), false)
		f.Add(append(stream, stream...), !masked, byte(0), byte(254), true)
		f.Add(side{client: !masked}.hugeHeader(fin|bin, 1<<63-1), !masked, byte(1), byte(255), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, client bool, chop, readSize byte, wait bool) {
		m := &memConn{in: bytes.Clone(b), chop: int(chop)}
		c := newConn(m, nil, client, false, Options{ValidateUTF8: true})
		size := int(readSize)
		switch size {
		case 255:
			size = 64 << 10
		case 254:
			size = readBufferSize
		}
		got, err := readStreamAll(c, max(size, 1), wait)
		c.Close(StatusNormal, "")
		messages, pings, end := parsePlainly(b, client, true)
		var want []byte
		for _, m := range messages {
			want = append(want, m.payload...)
		}
		if endOf(err) != end {
			t.Fatalf("ended with %v, want %d", err, end)
		}
		if end == -1007 && bytes.HasPrefix(want, got) {
			got = want // how much of the invalid text is delivered depends on how the bytes are cut
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read %q, want %q", got, want)
		}
		s := side{"conn", client}
		for i := 0; ; i++ {
			fr, err := s.readFrame(t, &m.out)
			if err != nil {
				t.Fatalf("reading our frame %d: %v", i, err)
			}
			if fr.first == fin|closE {
				if i != len(pings) || m.out.Len() != 0 {
					t.Fatalf("%d pongs for %d pings, %d bytes after the Close", i, len(pings), m.out.Len())
				}
				return
			}
			if i >= len(pings) || fr != (rawFrame{fin | pong, pings[i]}) {
				t.Fatalf("frame %d is %q, pings were %q", i, fr, pings)
			}
		}
	})
}

// Frames that arrived together are read together.
func TestReadStreamReadsAllFrames(t *testing.T) {
	var b []byte
	for range 2000 {
		b = append(b, makeFrame(fin|bin, []byte("x"), true)...)
	}
	b = append(b, makeFrame(fin|closE, nil, true)...)
	c := newConn(&memConn{in: b}, nil, false, false, Options{})
	defer c.CloseNow()
	p := make([]byte, 64<<10)
	n, err := c.ReadStream(p)
	if n != 2000 || err != nil || string(p[:n]) != strings.Repeat("x", 2000) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if _, err = c.ReadStream(p); endOf(err) != 1005 {
		t.Errorf("then %v, want the Close", err)
	}
}

// A long frame takes no memory before it arrives, and the part that has arrived is returned at once.
func TestReadStreamReturnsPartOfFrame(t *testing.T) {
	s := bothSides[0]
	raw, c := s.start(t, Options{ValidateUTF8: true})
	raw.Write(s.hugeHeader(fin|bin, 1<<63-1))
	p := make([]byte, 64<<10)
	for range 3 {
		raw.Write([]byte("abc"))
		for got := 0; got < 3; {
			if err := c.WaitStream(); err != nil {
				t.Fatal(err)
			}
			n, err := c.ReadStream(p)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
	if len(c.buf) > readBufferSize {
		t.Errorf("the buffer has grown to %d bytes", len(c.buf))
	}
}

// After our Close frame, the peer's data is read up to its Close frame.
func TestReadAfterSendClose(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c := s.start(t, Options{})
			c.WriteMessage(OpBinary, []byte("last"))
			c.SendClose(StatusNormal, "done")
			for _, want := range []rawFrame{{fin | bin, "last"}, {fin | closE, "\x03\xe8done"}} {
				if fr, err := s.readFrame(t, raw); err != nil || fr != want {
					t.Fatalf("%q, %v, want %q", fr, err, want)
				}
			}
			if err := c.WriteMessage(OpBinary, []byte("x")); err == nil {
				t.Error("a message left behind the Close")
			}
			raw.Write(s.frame(fin|bin, "still"))
			raw.Write(s.frame(fin|closE, "\x03\xe8"))
			go io.Copy(io.Discard, raw)
			got, err := readStreamAll(c, 100, true)
			var closed *CloseError
			if string(got) != "still" || !errors.As(err, &closed) || closed.Code != StatusNormal {
				t.Errorf("read %q, %v", got, err)
			}
			raw.CloseWrite()
			if err := c.Close(StatusInternalError, ""); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func TestReadStreamNoAllocations(t *testing.T) {
	for _, size := range []int{1, 1000, 64 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			raw, c := bothSides[0].start(t, Options{ValidateUTF8: true})
			var b []byte
			for range 1 + 10000/size {
				b = append(b, makeFrame(fin|bin, make([]byte, size), true)...)
			}
			done := repeat(raw, b)
			p := make([]byte, 64<<10)
			if n := testing.AllocsPerRun(500, func() {
				if _, err := c.ReadStream(p); err != nil {
					t.Error(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations per read", n)
			}
			c.CloseNow()
			<-done
		})
	}
}
