package ws

import "unicode/utf8"

// A utf8Checker checks that a text message is UTF-8 as it arrives, in pieces of any size. The zero value
// is at the start of a message.
type utf8Checker struct {
	part [utf8.UTFMax]byte // the beginning of a code point
	n    int
}

// write reports whether all bytes so far can begin a valid text. It returns false at the first byte that
// cannot, also inside a code point.
func (u *utf8Checker) write(p []byte) bool {
	for u.n > 0 && len(p) > 0 {
		u.part[u.n] = p[0]
		u.n++
		p = p[1:]
		// FullRune is true for a whole code point and for bytes that cannot become one.
		if !utf8.FullRune(u.part[:u.n]) {
			continue
		}
		if _, size := utf8.DecodeRune(u.part[:u.n]); size != u.n {
			return false
		}
		u.n = 0
	}
	whole := wholeRunes(p)
	if !utf8.Valid(p[:whole]) {
		return false
	}
	if whole < len(p) {
		u.n = copy(u.part[:], p[whole:])
	}
	return true
}

// complete reports whether the text may end here.
func (u *utf8Checker) complete() bool { return u.n == 0 }

// wholeRunes returns the length of p without an incomplete code point at its end. It does not check the
// bytes before.
func wholeRunes(p []byte) int {
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if utf8.FullRune(p[i:]) {
				break
			}
			return i
		}
	}
	return len(p)
}
