// Package logline has what log files and audit files share: whole lines even on a
// full disk, JSON without characters that act on a terminal, and the short form of
// a log line for people.
package logline

import (
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendEscaped appends JSON text to dst, with the characters escaped that a
// terminal or an editor may act on: controls such as C1 and DEL, bidirectional
// overrides, and all others that are not printable. JSON itself requires that of
// the controls below U+0020 only. Newlines between JSON texts stay. Invalid UTF-8
// becomes U+FFFD.
func AppendEscaped(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r == '\n' || unicode.IsPrint(r):
			dst = append(dst, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[size:]
	}
	return dst
}
