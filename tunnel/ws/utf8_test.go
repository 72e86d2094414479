package ws

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"unicode/utf8"
)

var utf8Texts = []struct {
	s string
	// bad is the number of bytes after which the text cannot be UTF-8 any more; 0 if it is UTF-8, -1 if it
	// ends inside a code point.
	bad int
}{
	{"", 0},
	{"plain", 0},
	{"κόσμε", 0},
	{"Hello-µ@ßöäüàá-UTF-8!!", 0},
	{"\U0010ffff\U0001f600\uffff\ufffd\u0800\u07ff\u0080", 0},
	{"0123456789abcdef\u20ac0123456789abcdef", 0},
	{"\xce\xba\xe1\xbd", -1},
	{"\xf0\x9f\x98", -1},
	{"x\xc3", -1},
	{"\x80", 1},
	{"\xc0\x80", 1},
	{"\xc1\xbf", 1},
	{"\xf5", 1},
	{"\xff", 1},
	{"\xfe", 1},
	{"ab\xbf", 3},
	{"\xe0\x80\xaf", 2},
	{"\xe0\x9f\xbf", 2},
	{"\xed\xa0\x80", 2},
	{"\xf0\x8f\xbf\xbf", 2},
	{"\xf4\x90\x80\x80", 2},
	{"κόσμε\xf4\x90\x80\x80edited", 12},
	{"κόσμε\xed\xa0\x80edited", 12},
	{"\xe2\x82x", 3},
	{"\xf0\x9f\x98x", 4},
	{"\xe2(\xa1", 2},
}

func TestUTF8Checker(t *testing.T) {
	for _, tt := range utf8Texts {
		for size := 1; size <= len(tt.s)+1; size++ {
			var u utf8Checker
			bad := 0
			for i := 0; i < len(tt.s); i += size {
				if !u.write([]byte(tt.s[i:min(i+size, len(tt.s))])) {
					bad = i + 1
					break
				}
			}
			if bad == 0 && !u.complete() {
				bad = -1
			}
			want := tt.bad
			if want > 0 {
				want -= (want - 1) % size // found with the frame that has the byte
			}
			if bad != want {
				t.Errorf("%q in pieces of %d: %d, want %d", tt.s, size, bad, want)
			}
		}
	}
}

// Each text is sent in frames of every size, and invalid UTF-8 must be found before the rest of its frame arrives.
func TestTextMessages(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range utf8Texts {
				for _, size := range []int{1, 2, 3, 5, 1000} {
					raw, c := s.start(t, Options{ValidateUTF8: true})
					var b []byte
					for i, left := 0, tt.s; i == 0 || left != ""; i++ {
						n := min(size, len(left))
						first := cont
						if i == 0 {
							first = text
						}
						if n == len(left) && tt.bad <= 0 {
							first |= fin
						}
						b = append(b, s.frame(first, left[:n])...)
						left = left[n:]
					}
					go raw.Write(b) // the connection stays open
					c.NextMessage()
					got, err := io.ReadAll(c)
					if tt.bad == 0 {
						if string(got) != tt.s || err != nil {
							t.Errorf("%q by %d: read %q, %v", tt.s, size, got, err)
						}
					} else if endOf(err) != -1007 {
						t.Errorf("%q by %d: %v, want 1007", tt.s, size, err)
					} else if f := s.mustFrame(t, raw); f.first != fin|closE || f.payload[:2] != closeBody(1007, "") {
						t.Errorf("%q by %d: sent %q", tt.s, size, f)
					}
					c.CloseNow()
				}
			}
		})
		t.Run(s.name+"/stall", func(t *testing.T) {
			t.Parallel()
			raw, c := s.start(t, Options{ValidateUTF8: true})
			b := s.frame(fin|text, "good \xf4\x90 and much more")
			raw.Write(b[:len(b)-14])
			c.NextMessage()
			if _, err := io.ReadAll(c); endOf(err) != -1007 {
				t.Errorf("got %v", err)
			}
		})
		t.Run(s.name+"/ends by an empty fragment", func(t *testing.T) {
			t.Parallel()
			raw, c := s.start(t, Options{ValidateUTF8: true})
			raw.Write(s.frame(text, "\xc3"))
			raw.Write(s.frame(fin|cont, ""))
			c.NextMessage()
			if _, err := io.ReadAll(c); endOf(err) != -1007 {
				t.Errorf("got %v", err)
			}
		})
		t.Run(s.name+"/binary and unchecked", func(t *testing.T) {
			t.Parallel()
			raw, c := s.start(t, Options{ValidateUTF8: true})
			raw.Write(s.frame(fin|bin, "\xff"))
			c.NextMessage()
			if got, err := io.ReadAll(c); string(got) != "\xff" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			raw, c = s.start(t, Options{})
			raw.Write(s.frame(fin|text, "\xff"))
			c.NextMessage()
			if got, err := io.ReadAll(c); string(got) != "\xff" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// cutAll sends s through a TextCutter with reads of the given size.
func cutAll(s string, size int) (out []byte, err error) {
	var cutter TextCutter
	buf := make([]byte, size+utf8.UTFMax-1)
	for r := bytes.NewReader([]byte(s)); ; {
		n := cutter.Restore(buf)
		m, readErr := r.Read(buf[n : n+size])
		text, err := cutter.Cut(buf[:n+m])
		if !utf8.Valid(text) {
			return out, errors.New("a piece is not valid")
		}
		out = append(out, text...)
		if err != nil {
			return out, err
		}
		if readErr != nil {
			return out, cutter.End()
		}
	}
}

func TestTextCutter(t *testing.T) {
	for _, tt := range utf8Texts {
		for size := 1; size <= len(tt.s)+1; size++ {
			got, err := cutAll(tt.s, size)
			want := []byte(tt.s)
			want = want[:validPrefix(want)]
			if !bytes.Equal(got, want) {
				t.Errorf("%q by %d: %q, want %q", tt.s, size, got, want)
			}
			if errors.Is(err, ErrInvalidUTF8) != (tt.bad != 0) {
				t.Errorf("%q by %d: %v", tt.s, size, err)
			}
		}
	}
}

func FuzzTextCutter(f *testing.F) {
	for _, tt := range utf8Texts {
		f.Add(tt.s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		got, err := cutAll(s, size)
		if utf8.ValidString(s) != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if want := s[:validPrefix([]byte(s))]; string(got) != want {
			t.Fatalf("%q: got %q, want %q", s, got, want)
		}
		// utf8Checker must agree.
		var u utf8Checker
		ok := true
		for i := 0; i < len(s) && ok; i += size {
			ok = u.write([]byte(s[i:min(i+size, len(s))]))
		}
		if (ok && u.complete()) != (err == nil) {
			t.Fatalf("%q: checker says %v, %v", s, ok, u.complete())
		}
	})
}
