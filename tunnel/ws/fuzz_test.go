package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
	"unicode/utf8"
)

// A memConn is a connection that reads given bytes, at most chop at a time; its other methods do nothing.
type memConn struct {
	net.Conn
	in   []byte
	chop int
	out  bytes.Buffer
}

func (m *memConn) Read(p []byte) (int, error) {
	if len(m.in) == 0 {
		return 0, io.EOF
	}
	if m.chop > 0 && len(p) > m.chop {
		p = p[:m.chop]
	}
	n := copy(p, m.in)
	m.in = m.in[n:]
	return n, nil
}

func (m *memConn) Write(p []byte) (int, error)      { return m.out.Write(p) }
func (m *memConn) Close() error                     { return nil }
func (m *memConn) SetDeadline(time.Time) error      { return nil }
func (m *memConn) SetWriteDeadline(time.Time) error { return nil }

// parsePlainly returns what a reader must deliver for a byte stream, by a simple implementation of RFC 6455,
// section 5, with everything in memory.
func parsePlainly(b []byte, client, checkText bool) (all []message, pings []string, end int) {
	var open bool
	var got []byte // of the open message
	fault := func(code int) ([]message, []string, int) { return all, pings, code }
	deliver := func(op byte, p []byte) bool {
		got = append(got, p...)
		all[len(all)-1].payload = string(got)
		if !checkText || all[len(all)-1].op != OpText {
			return true
		}
		for rest := got; len(rest) > 0; {
			r, n := utf8.DecodeRune(rest)
			if r == utf8.RuneError && n == 1 {
				return !utf8.FullRune(rest)
			}
			rest = rest[n:]
		}
		return true
	}
	for {
		if len(b) < 2 {
			return fault(0)
		}
		isFin, rsv, op := b[0]&0x80 != 0, b[0]&0x70, b[0]&15
		masked, n7 := b[1]&0x80 != 0, b[1]&127
		control := op&8 != 0
		if rsv != 0 || masked == client || op > 10 || op > 2 && op < 8 || control && (!isFin || n7 > 125) || !control && (op != 0) == open {
			return fault(-1002)
		}
		head := 2 + map[byte]int{126: 2, 127: 8}[n7]
		if masked {
			head += 4
		}
		if len(b) < head {
			return fault(0)
		}
		n := uint64(n7)
		if n7 == 126 {
			n = uint64(binary.BigEndian.Uint16(b[2:]))
		} else if n7 == 127 {
			n = binary.BigEndian.Uint64(b[2:])
		}
		if n>>63 != 0 {
			return fault(-1002)
		}
		have := min(n, uint64(len(b)-head))
		p := bytes.Clone(b[head : head+int(have)])
		if masked {
			for i := range p {
				p[i] ^= b[head-4+i%4]
			}
		}
		b = b[head+int(have):]
		if control {
			if have < n {
				return fault(0)
			}
			switch op {
			case opPing:
				pings = append(pings, string(p))
			case opClose:
				if len(p) == 0 {
					return fault(1005)
				}
				if len(p) == 1 {
					return fault(-1002)
				}
				code := int(binary.BigEndian.Uint16(p))
				if !StatusCode(code).sendable() {
					return fault(-1002)
				}
				if !utf8.Valid(p[2:]) {
					return fault(-1007)
				}
				return fault(code)
			}
			continue
		}
		if op != 0 {
			all = append(all, message{op: Opcode(op)})
			got = nil
		}
		open = true
		if !deliver(op, p) {
			return fault(-1007)
		}
		if have < n {
			return fault(0)
		}
		if isFin {
			if checkText && all[len(all)-1].op == OpText && !utf8.Valid(got) {
				return fault(-1007)
			}
			open = false
			all[len(all)-1].whole = true
		}
	}
}

func FuzzReadFrames(f *testing.F) {
	for _, masked := range []bool{false, true} {
		var stream []byte
		for _, fr := range []struct {
			first byte
			p     string
		}{{fin | text, "hello"}, {bin, "a"}, {fin | ping, "p"}, {cont, ""}, {fin | cont, "b\xff"}, {text, "\xe2"}, {fin | cont, "\x82\xac"}, {fin | closE, "\x03\xe8bye"}} {
			one := makeFrame(fr.first, []byte(fr.p), masked)
			stream = append(stream, one...)
			f.Add(one, !masked, byte(0), byte(3))
		}
		f.Add(stream, !masked, byte(1), byte(100))
		f.Add(makeFrame(fin|text, bytes.Repeat([]byte("κ"), 2500), masked), !masked, byte(0), byte(255))
		f.Add(side{client: !masked}.hugeHeader(fin|bin, 1<<63-1), !masked, byte(1), byte(1))
		f.Add(side{client: !masked}.hugeHeader(fin|bin, 1<<64-1), !masked, byte(1), byte(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, client bool, chop, readSize byte) {
		m := &memConn{in: bytes.Clone(b), chop: int(chop)}
		c := newConn(m, nil, client, false, Options{ValidateUTF8: true})
		size := int(readSize)
		if size == 255 {
			size = 64 << 10 // larger than the read buffer
		}
		got, err := readAll(c, max(size, 1))
		c.Close(StatusNormal, "")
		want, pings, end := parsePlainly(b, client, true)
		if endOf(err) != end {
			t.Fatalf("ended with %v, want %d", err, end)
		}
		if end == -1007 {
			// How much of the invalid text is delivered depends on how the bytes are cut.
			for i := range min(len(got), len(want)) {
				if !bytes.HasPrefix([]byte(want[i].payload), []byte(got[i].payload)) {
					t.Fatalf("message %d is %q, want a prefix of %q", i, got[i].payload, want[i].payload)
				}
			}
		} else if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("read %v, want %v", got, want)
		}
		// We sent the pongs in order, then one Close frame.
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

// One end reads what the other writes.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), uint16(1), uint32(3), true, false, byte(0))
	f.Add([]byte("0123456789"), uint16(14000), uint32(65535), false, true, byte(0))
	f.Add([]byte{}, uint16(0), uint32(0), true, true, byte(1))
	f.Fuzz(func(t *testing.T, b []byte, times uint16, cut uint32, client, secure bool, chop byte) {
		if len(b)*int(times) > 1<<20 {
			return
		}
		b = bytes.Repeat(b, int(times))
		first, second := b[:min(int(cut), len(b))], b[min(int(cut), len(b)):]
		m := &memConn{chop: int(chop)}
		from := newConn(m, nil, client, secure, Options{})
		buf := append(make([]byte, from.Headroom()), first...)
		if err := from.WriteBuffer(OpBinary, buf); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[from.Headroom():], first) {
			t.Fatal("WriteBuffer changed the payload")
		}
		if err := from.WriteMessage(OpText, second); err != nil {
			t.Fatal(err)
		}
		from.Close(StatusNormal, "")

		m = &memConn{in: bytes.Clone(m.out.Bytes()), chop: int(chop)}
		to := newConn(m, nil, !client, secure, Options{})
		got, err := readAll(to, 1000)
		to.Close(StatusNormal, "")
		want := []message{{OpBinary, string(first), true}, {OpText, string(second), true}}
		if endOf(err) != 1000 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%d messages, %v", len(got), err)
		}
	})
}
