package mux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"adit/mux/link"
)

func TestOpenRoundTrip(t *testing.T) {
	for _, want := range []Target{
		{TCP, "127.0.0.1:22"}, {TCP, "[::1]:5432"}, {Unix, "/run/app.sock"}, {Named, "ssh"}, {Named, "日本"},
		{TCP, strings.Repeat("a", MaxAddress)},
	} {
		b := appendOpen(nil, want)
		r := iotest.OneByteReader(bytes.NewReader(append(b, "data"...)))
		got, err := readOpen(r)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v came back as %v, %v", want, got, err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "data" {
			t.Errorf("the data behind the header became %q", rest)
		}
		for n := range b {
			_, err := readOpen(bytes.NewReader(b[:n]))
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if err != want {
				t.Errorf("header cut after %d bytes: %v", n, err)
			}
		}
	}
}

func TestOpenRefused(t *testing.T) {
	head := func(version, kind byte, n uint16) []byte { return append([]byte{version, kind}, byte(n>>8), byte(n)) }
	for name, b := range map[string][]byte{
		"version":        append(head(2, 1, 1), 'a'),
		"version 0":      append(head(0, 1, 1), 'a'),
		"kind 0":         append(head(1, 0, 1), 'a'),
		"kind 4":         append(head(1, 4, 1), 'a'),
		"empty":          head(1, 1, 0),
		"too long":       append(head(1, 1, MaxAddress+1), bytes.Repeat([]byte("a"), MaxAddress+1)...),
		"longest length": head(1, 1, 0xffff),
		"newline":        append(head(1, 1, 1), '\n'),
		"NUL":            append(head(1, 2, 1), 0),
		"C1 control":     append(head(1, 1, 2), 0xc2, 0x9b),
		"not UTF-8":      append(head(1, 1, 1), 0xff),
		"overlong slash": append(head(1, 2, 2), 0xc0, 0xaf),
		"surrogate":      append(head(1, 2, 3), 0xed, 0xa0, 0x80),
		"delete":         append(head(1, 3, 1), 0x7f),
	} {
		want := ErrProtocol
		if strings.HasPrefix(name, "kind") {
			want = errUnknownKind
		}
		if _, err := readOpen(bytes.NewReader(b)); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResultRoundTrip(t *testing.T) {
	for c := range 256 {
		for _, reason := range []string{"", "connection refused", strings.Repeat("x", MaxReason)} {
			b := appendResult(nil, Code(c), reason)
			code, got, err := readResult(iotest.OneByteReader(bytes.NewReader(b)))
			if err != nil || code != Code(c) || got != reason {
				t.Fatalf("code %d, %q came back as %d, %q, %v", c, reason, code, got, err)
			}
			for n := range b {
				if _, _, err := readResult(bytes.NewReader(b[:n])); err != io.ErrUnexpectedEOF {
					t.Fatalf("result cut after %d bytes: %v", n, err)
				}
			}
		}
	}
	if _, _, err := readResult(bytes.NewReader([]byte{1, 0xff, 0xff})); !errors.Is(err, ErrProtocol) {
		t.Errorf("a reason of 65535 bytes: %v", err)
	}
	// Cut within a code point, and a peer that does not keep to text.
	_, got, err := readResult(bytes.NewReader(appendResult(nil, Failed, strings.Repeat("x", MaxReason-1)+"é")))
	if err != nil || got != strings.Repeat("x", MaxReason-1) {
		t.Errorf("a long reason came back as %q, %v", got, err)
	}
	_, got, err = readResult(bytes.NewReader(append([]byte{1, 0, 7}, "a\x1b[\xff\n\xc2\x9b"...)))
	if err != nil || got != "a?[???" {
		t.Errorf("a reason with control characters came back as %q, %v", got, err)
	}
}

func TestFrameRoundTrip(t *testing.T) {
	for _, c := range []struct {
		typ    frameType
		length int
		ok     bool
	}{
		{frameData, 1, true}, {frameData, MaxFrame, true}, {frameEnd, 0, true},
		{frameData, 0, false}, {frameData, MaxFrame + 1, false}, {frameData, 0xffffff, false},
		{frameEnd, 1, false}, {2, 0, false}, {2, 1, false}, {0xff, 0xffffff, false},
	} {
		var b [frameHeader]byte
		putFrame(b[:], c.typ, c.length)
		typ, length, err := parseFrame(b)
		if c.ok && (err != nil || typ != c.typ || length != c.length) {
			t.Errorf("%d, %d came back as %d, %d, %v", c.typ, c.length, typ, length, err)
		}
		if !c.ok && !errors.Is(err, ErrProtocol) {
			t.Errorf("%d, %d: %v", c.typ, c.length, err)
		}
	}
}

func TestControlRoundTrip(t *testing.T) {
	for _, f := range []controlFrame{{}, {controlCredit, 3, 1}, {controlReset, 1<<32 - 1, 1<<32 - 1}, {255, 0, 0}} {
		b := appendControl(nil, f)
		if len(b) != controlSize || parseControl([controlSize]byte(b)) != f {
			t.Errorf("%v is not what came back", f)
		}
	}
}

func TestCloseRoundTrip(t *testing.T) {
	for _, want := range []ClosedError{{Code: CloseDone}, {Code: CloseRevoked, Reason: "no longer"}, {Code: 255, Reason: strings.Repeat("x", MaxReason)}} {
		got, err := link.ParseClose(link.AppendClose(nil, want.Code, want.Reason))
		if err != nil || *got != want {
			t.Errorf("%v came back as %v, %v", want, got, err)
		}
	}
	for _, b := range [][]byte{nil, {4}, append([]byte{4, 0}, make([]byte, MaxReason+1)...)} {
		if _, err := link.ParseClose(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("close message of %d bytes: %v", len(b), err)
		}
	}
	if b := link.AppendClose(nil, CloseDone, strings.Repeat("é", MaxReason)); len(b) > 2+MaxReason {
		t.Errorf("close message of %d bytes", len(b))
	}
}

func TestHelloRoundTrip(t *testing.T) {
	key := &sessionKey{id: sessionID{1, 2, 3}, secret: [32]byte{31: 9}}
	ask := &resumption{id: key.id, attempt: 7, received: 1<<63 + 5}
	ask.proof = key.sign(ask)
	for _, want := range []hello{
		{version: Version, maxStreams: 1, credit: 1},
		{version: Version, maxStreams: 1<<32 - 1, credit: 1<<32 - 1, hold: 1<<32 - 1},
		{version: Version, maxStreams: 1, credit: 1, hold: 5, key: key},
		{version: Version, maxStreams: 1, credit: 1, hold: 5, resume: ask},
		{version: Version, maxStreams: 1, credit: 1, resumed: &resumed{1<<64 - 1, 1}},
	} {
		b := appendHello(nil, want)
		if got, err := parseHello(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v came back as %v, %v", want, got, err)
		}
		// Parameters of a later version, also one of the greatest length.
		b = append(b, 200, 0, 0, 201, 0xff, 0xff)
		b = append(b, make([]byte, 0xffff)...)
		if got, err := parseHello(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("with unknown parameters, %v came back as %v, %v", want, got, err)
		}
	}
	if got, err := parseHello([]byte{1, 9, 0xff, 0xff}); err != nil || !reflect.DeepEqual(got, hello{version: 9}) {
		t.Errorf("the hello of another version is %v, %v", got, err)
	}
	for name, b := range map[string][]byte{
		"empty":                 {},
		"cut before version":    {1},
		"another message":       {2, 1},
		"no parameters":         {1, 1},
		"cut in a length":       {1, 1, 1, 0},
		"cut in a value":        {1, 1, 1, 0, 4, 0, 0},
		"longest length":        {1, 1, 1, 0xff, 0xff, 0},
		"value of three bytes":  {1, 1, 1, 0, 3, 0, 0, 1},
		"no streams":            appendHello(nil, hello{version: Version, maxStreams: 0, credit: 1}),
		"no credit":             appendHello(nil, hello{version: Version, maxStreams: 1, credit: 0}),
		"unknown, cut":          append(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), 200, 0, 1),
		"key too short":         appendParam(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), paramKey, make([]byte, 47)),
		"key too long":          appendParam(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), paramKey, make([]byte, 49)),
		"resumption too short":  appendParam(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), paramResume, make([]byte, 59)),
		"resumption too long":   appendParam(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), paramResume, make([]byte, 61)),
		"consent of 8 bytes":    appendParam(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), paramResumed, make([]byte, 8)),
		"one parameter missing": appendParam32([]byte{1, 1}, paramCredit, 1),
	} {
		if _, err := parseHello(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCodesHaveNames(t *testing.T) {
	for c := range Code(12) {
		if s := c.String(); s == "" || strings.HasPrefix(s, "code") {
			t.Errorf("code %d is %q", c, s)
		}
	}
	if s := Code(12).String(); s != "code 12" {
		t.Errorf("code 12 is %q", s)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(appendOpen(nil, anywhere))
	f.Add([]byte{1, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		target, err := readOpen(bytes.NewReader(b))
		if err != nil {
			return
		}
		if err := target.Validate(); err != nil {
			t.Fatal(err)
		}
		if again := appendOpen(nil, target); !bytes.HasPrefix(b, again) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add(appendResult(nil, Refused, "connection refused"))
	f.Add([]byte{1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		code, reason, err := readResult(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(reason) > MaxReason || !utf8.ValidString(reason) || strings.ContainsAny(reason, "\n\x1b\x00") {
			t.Fatalf("reason %q", reason)
		}
		c, r, err := readResult(bytes.NewReader(appendResult(nil, code, reason)))
		if c != code || r != reason || err != nil {
			t.Fatalf("%d, %q came back as %d, %q, %v", code, reason, c, r, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(uint32(0xffffffff))
	f.Add(uint32(1))
	f.Fuzz(func(t *testing.T, v uint32) {
		var b, again [frameHeader]byte
		binary.BigEndian.PutUint32(b[:], v)
		typ, n, err := parseFrame(b)
		if err != nil {
			return
		}
		if n < 0 || n > MaxFrame {
			t.Fatalf("frame of %d bytes", n)
		}
		if putFrame(again[:], typ, n); again != b {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, hello{version: Version, maxStreams: 4096, credit: 65536}))
	f.Add([]byte{1, 1, 1, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil || h.version != Version {
			return
		}
		if again, err := parseHello(appendHello(nil, h)); err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%v came back as %v, %v", h, again, err)
		}
	})
}

func FuzzClose(f *testing.F) {
	f.Add(link.AppendClose(nil, CloseAway, "stopping"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := link.ParseClose(b)
		if err != nil {
			return
		}
		if again, err := link.ParseClose(link.AppendClose(nil, e.Code, e.Reason)); err != nil || *again != *e {
			t.Fatalf("%v came back as %v, %v", e, again, err)
		}
	})
}

// FuzzAdapter feeds arbitrary bytes, in arbitrary pieces, to the yamux adapter: however
// they are cut, yamux and the streams get the same.
func FuzzAdapter(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 'a', 'b', 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, uint8(5))
	f.Add(bytes.Repeat([]byte{0xff}, 24), uint8(1))
	f.Add(append(dataFrame(1, make([]byte, 5000)), dataFrame(1, make([]byte, 100<<10))...), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		whole, wholeErr := adapterGives(bytes.NewReader(b))
		cut, cutErr := adapterGives(&pieces{b, int(piece) + 1})
		if wholeErr.Error() != cutErr.Error() {
			t.Fatalf("whole: %v, in pieces: %v", wholeErr, cutErr)
		}
		if len(whole) != len(cut) {
			t.Fatal("whole and in pieces have different streams")
		}
		for id, got := range whole {
			if !bytes.Equal(got, cut[id]) {
				t.Fatalf("stream %d has other bytes in pieces", id)
			}
		}
	})
}

// pieces reads b, n bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

// adapterGives returns the bytes of r that each stream gets, with stream 1 open, and as
// 0 those that yamux gets.
func adapterGives(r io.Reader) (map[uint32][]byte, error) {
	c := &adapter{limit: 1 << 20, buffers: map[uint32]*receiveBuffer{1: newReceiveBuffer(1<<40, new(atomic.Int64))}, updateAfter: 1 << 30}
	boxes := map[uint32]*receiveBuffer{1: c.buffers[1]}
	got := map[uint32][]byte{}
	for {
		var p [yamuxHeader]byte
		n, err := c.read(r, p[:])
		got[0] = append(got[0], p[:n]...)
		maps.Copy(boxes, c.buffers)
		if err != nil {
			for id, in := range boxes {
				in.stop()
				got[id], _ = io.ReadAll(&streamReader{adapter: &adapter{updateAfter: 1 << 30}, in: in})
			}
			return got, err
		}
	}
}
