package ws

import (
	"errors"
	"unicode/utf8"
)

// ErrInvalidUTF8 reports bytes that may not be sent in a text message.
var ErrInvalidUTF8 = errors.New("not valid UTF-8")

// A TextCutter cuts a byte stream, as it is read, into valid text messages: it holds back the beginning
// of a code point that is split by the end of a read, until the rest arrives. The zero value is ready to
// use. Around a read into buf it is used like this:
//
//	n := cutter.Restore(buf)
//	m, readErr := backend.Read(buf[n:])
//	text, err := cutter.Cut(buf[:n+m])
type TextCutter struct {
	held [utf8.UTFMax - 1]byte
	n    int
}

// Restore copies the bytes held back, at most 3, to the start of buf and returns their number. buf must
// have room for them and for the next read.
func (t *TextCutter) Restore(buf []byte) int {
	n := copy(buf, t.held[:t.n])
	t.n = 0
	return n
}

// Cut returns the longest prefix of p that ends with a code point, and holds back the at most 3 bytes
// after it. The prefix may be empty, and shares p's memory. With ErrInvalidUTF8 it returns the valid bytes
// before the invalid one.
func (t *TextCutter) Cut(p []byte) ([]byte, error) {
	whole := wholeRunes(p)
	if !utf8.Valid(p[:whole]) {
		return p[:validPrefix(p[:whole])], ErrInvalidUTF8
	}
	t.n = copy(t.held[:], p[whole:])
	return p[:whole], nil
}

// End returns ErrInvalidUTF8 if the stream ended inside a code point.
func (t *TextCutter) End() error {
	if t.n > 0 {
		return ErrInvalidUTF8
	}
	return nil
}

// validPrefix returns how many bytes of p are valid.
func validPrefix(p []byte) int {
	n := 0
	for n < len(p) {
		r, size := utf8.DecodeRune(p[n:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		n += size
	}
	return n
}
