//go:build linux

package e2e

import (
	"fmt"
	"strings"
)

// validUTF8 are texts at the limits of UTF-8.
var validUTF8 = append([]string{
	"Hello-µ@ßöäüàá-UTF-8!!",
	"κόσμε",
	"\x00", "\x00\x01\x7f", "\x7f", "\u0080", "\u07ff", "\u0800", "\u0fff", "\u1000", "\ucfff",
	"\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff", "\ufeffa byte order mark",
	"\U00010000", "\U0003ffff", "\U00040000", "\U000fffff", "\U00100000", "\U0010ffff",
	"e\u0301 is two code points", "עברית العربية 中文 日本語 한국어", "👩‍👩‍👧‍👦 is seven", "aé€😀",
}, nonCharacters()...)

// nonCharacters returns the code points that are never characters but are valid UTF-8.
func nonCharacters() []string {
	var all []string
	for plane := rune(1); plane <= 16; plane++ {
		all = append(all, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	return append(all, "\ufdd0\ufdef")
}

// invalidUTF8 are invalid texts: the last byte of bad is the first that cannot follow good and the
// rest of bad. If bad is empty, the text is truncated.
var invalidUTF8 = []struct{ name, good, bad string }{
	{"a lonely continuation 80", "", "\x80"},
	{"a lonely continuation bf", "", "\xbf"},
	{"a continuation after ASCII", "a", "\x80"},
	{"a continuation too many", "é", "\x80"},
	{"a continuation after three bytes", "€", "\x80"},
	{"a continuation after four bytes", "😀", "\xbf"},
	{"fe", "", "\xfe"},
	{"ff", "", "\xff"},
	{"fe behind text", "a whole sentence. ", "\xfe"},
	{"slash in two bytes", "", "\xc0"},
	{"c1", "", "\xc1"},
	{"slash in three bytes", "\xe0", "\x80"},
	{"7ff in three bytes", "\xe0", "\x9f"},
	{"slash in four bytes", "\xf0", "\x80"},
	{"ffff in four bytes", "\xf0", "\x8f"},
	{"zero in two bytes", "κόσμε", "\xc0"},
	{"slash in five bytes", "", "\xf8"},
	{"slash in six bytes", "", "\xfc"},
	{"the surrogate d800", "\xed", "\xa0"},
	{"the surrogate db7f", "\xed", "\xad"},
	{"the surrogate db80", "\xed", "\xae"},
	{"the surrogate dbff", "\xed", "\xaf"},
	{"the surrogate dc00", "\xed", "\xb0"},
	{"the surrogate df80", "\xed", "\xbe"},
	{"the surrogate dfff", "\xed", "\xbf"},
	{"a surrogate behind text", "κόσμε\xed", "\xa0"},
	{"110000", "\xf4", "\x90"},
	{"110000 behind text", "κόσμε\xf4", "\x90"},
	{"13ffff", "\xf4", "\xbf"},
	{"f5", "", "\xf5"},
	{"f6", "", "\xf6"},
	{"f7", "", "\xf7"},
	{"five bytes", "", "\xfb"},
	{"six bytes", "", "\xfd"},
	{"two bytes with ASCII for the second", "\xc3", "a"},
	{"two bytes with a beginning for the second", "\xc3", "\xc3"},
	{"three bytes with ASCII for the second", "\xe2", "a"},
	{"three bytes with ASCII for the third", "\xe2\x82", "a"},
	{"three bytes with a beginning for the third", "\xe2\x82", "\xe2"},
	{"four bytes with ASCII for the second", "\xf0", "a"},
	{"four bytes with ASCII for the third", "\xf0\x9f", "a"},
	{"four bytes with ASCII for the fourth", "\xf0\x9f\x98", "a"},
	{"four bytes with ff for the fourth", "\xf0\x9f\x98", "\xff"},
	{"latin-1", "caf", "\xe9 "},
	{"two bytes without the second", "\xc3", ""},
	{"two bytes without the second, behind text", "aé€😀\xdf", ""},
	{"three bytes without the second", "\xe2", ""},
	{"three bytes without the third", "\xe2\x82", ""},
	{"three bytes without the third, from the first", "\xe0\xa0", ""},
	{"three bytes without the third, before surrogates", "\xed\x9f", ""},
	{"four bytes without the second", "\xf0", ""},
	{"four bytes without the third", "\xf0\x9f", ""},
	{"four bytes without the fourth", "\xf0\x9f\x98", ""},
	{"four bytes without the fourth, of the last", "\xf4\x8f\xbf", ""},
}

// utf8Cases check text from the client: the server detects a fault at its first invalid byte,
// however frames and segments split the text, and accepts all valid text.
func utf8Cases() []wsCase {
	var all []wsCase
	for _, s := range validUTF8 {
		name := fmt.Sprintf("valid %+q", s)
		all = append(all, passes(name, f(fin|opText, s), s),
			passes(name+", each byte a fragment", fragmentsOfOne(opText, s), s),
			passes(name+", twice", strings.Repeat(f(fin|opText, s), 2), s+s),
			passes(name, f(fin|opText, s), s).chopped(1))
	}
	mixed := "aé€😀"
	for i := range len(mixed) + 1 {
		for j := i; j <= len(mixed); j++ {
			all = append(all, passes(fmt.Sprintf("%q in three fragments, cut at %d and %d", mixed, i, j), fragments(opText, mixed[:i], mixed[i:j], mixed[j:]), mixed))
		}
		all = append(all, passes(fmt.Sprintf("%q with a ping at %d", mixed, i), f(opText, mixed[:i])+f(fin|opPing, "p")+f(fin|opCont, mixed[i:]), mixed, "p"))
		if i > 0 && i < len(mixed) {
			all = append(all, passes(fmt.Sprintf("%q in pieces that meet the frame's byte %d", mixed, i), f(fin|opText, mixed), mixed).chopped(6+i))
		}
	}
	for _, c := range invalidUTF8 {
		whole := c.good + c.bad
		all = append(all,
			ends(c.name, f(fin|opText, whole), 1007, whole),
			ends(c.name+", each byte a fragment", fragmentsOfOne(opText, whole), 1007, whole),
			ends(c.name, f(fin|opText, whole), 1007, whole).chopped(1),
			ends(c.name+" behind a message", f(fin|opText, "é")+f(fin|opText, whole)+f(fin|opPing, "late"), 1007, "é"+whole),
			wsCase{name: c.name + " after an answer", code: 1007, may: whole,
				steps: []wsStep{{send: f(fin|opText, "é"), data: "é"}, {send: f(fin|opText, whole)}}},
			ends(c.name+", then an empty last fragment", fragments(opText, whole, ""), 1007, whole))
		if c.bad == "" {
			all = append(all, ends(c.name+", the rest as another message", f(fin|opText, whole)+f(fin|opText, "\x82"), 1007, whole))
			continue
		}
		// The client sends nothing after the fault and does not end the frame.
		stalling := f(opText, "start") + announce(opCont, 2, 1000, "é"+whole)
		all = append(all,
			ends(c.name+", the frame not over", announce(fin|opText, 2, 1000, whole), 1007, whole),
			ends(c.name+", the frame not over", announce(fin|opText, 2, 1000, whole), 1007, whole).chopped(1),
			ends(c.name+", a long frame not over", announce(fin|opText, 8, 1<<40, strings.Repeat("x", 9000)+whole), 1007, strings.Repeat("x", 9000)+whole),
			ends(c.name+", the message not over", f(opText, whole), 1007, whole),
			ends(c.name+" over two fragments, the second not over", f(opText, c.good)+announce(opCont, 2, 1000, c.bad), 1007, whole),
			ends(c.name+" behind a ping", f(opText, c.good)+f(fin|opPong, "")+f(opCont, c.bad), 1007, whole),
			wsCase{name: c.name + " after half of the frame has been answered", code: 1007, may: whole, steps: []wsStep{
				{send: stalling[:len(stalling)-len(whole)], data: "starté"}, {send: stalling[len(stalling)-len(whole):]}}})
	}
	all = append(all,
		passes("a text of 64 KiB, its code points across every border", f(fin|opText, "x"+strings.Repeat("€", 21845)), "x"+strings.Repeat("€", 21845)),
		ends("a fault in the last byte of 64 KiB", f(fin|opText, strings.Repeat("€", 21845)+"\xff"), 1007, strings.Repeat("€", 21845)+"\xff"),
		ends("a text of 64 KiB that ends inside a code point", f(fin|opText, strings.Repeat("€", 21845)+"\xe2"), 1007, strings.Repeat("€", 21845)+"\xe2"),
	)
	for n := 4070; n < 4110; n++ {
		s := strings.Repeat("x", n) + mixed
		all = append(all, passes(fmt.Sprintf("code points at byte %d", n), f(fin|opText, s), s),
			ends(fmt.Sprintf("a fault at byte %d", n), announce(fin|opText, 2, 60000, s+"\xff"), 1007, s+"\xff"))
	}
	return all
}
