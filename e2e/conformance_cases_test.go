//go:build linux

package e2e

import (
	"fmt"
	"strings"
)

// Sizes around the limits of the three encodings of a length, and of common buffers.
var borderSizes = []int{1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 63, 64, 124, 125, 126, 127, 128, 129, 255, 256,
	1000, 1023, 1024, 2047, 2048, 2049, 4082, 4083, 4090, 4095, 4096, 4097, 8192, 16383, 16384, 16385,
	32767, 32768, 65534, 65535, 65536, 65537, 65550, 131072}

func framingCases(payload func(int) string) []wsCase {
	var all []wsCase
	for _, n := range borderSizes {
		text, data := textPayload(n), payload(n)
		all = append(all, passes(fmt.Sprintf("text of %d", n), f(fin|opText, text), text),
			passes(fmt.Sprintf("binary of %d", n), f(fin|opBinary, data), data))
	}
	for _, n := range []int{1, 125, 126, 4096} {
		data := payload(n)
		all = append(all, passes(fmt.Sprintf("binary of %d", n), f(fin|opBinary, data), data).chopped(1),
			passes(fmt.Sprintf("ten times binary of %d", n), strings.Repeat(f(fin|opBinary, data), 10), strings.Repeat(data, 10)))
	}
	for _, n := range []int{997, 65536} {
		data := payload(n)
		all = append(all, passes(fmt.Sprintf("binary of %d", n), f(fin|opBinary, data), data).chopped(997))
	}
	// An empty message adds nothing to a byte stream and must do no harm.
	return append(all,
		passes("empty text", f(fin|opText, "")+f(fin|opPing, ""), "", ""),
		passes("empty binary", f(fin|opBinary, "")+f(fin|opPing, ""), "", ""),
		passes("a thousand empty messages", strings.Repeat(f(fin|opBinary, ""), 1000)+f(fin|opText, "x"), "x"),
		passes("text and binary in turn", strings.Repeat(f(fin|opText, "one")+f(fin|opBinary, "two"), 100), strings.Repeat("onetwo", 100)),
		passes("a thousand messages of one byte", oneByteFrames(1000), strings.Repeat("x", 1000)),
		wsCase{name: "a dozen messages, each after the answer", steps: repeatStep(12, wsStep{send: f(fin|opBinary, "question"), data: "question"})},
	)
}

func oneByteFrames(n int) string { return strings.Repeat(f(fin|opBinary, "x"), n) }

func repeatStep(n int, s wsStep) []wsStep {
	steps := make([]wsStep, n)
	for i := range steps {
		steps[i] = s
	}
	return steps
}

func pingCases(payload func(int) string) []wsCase {
	var all []wsCase
	for _, n := range []int{0, 1, 2, 5, 32, 64, 123, 124, 125} {
		p := binaryPayload(n)
		c := passes(fmt.Sprintf("ping of %d", n), f(fin|opPing, p), "", p)
		all = append(all, c, c.chopped(1))
	}
	var ten, many strings.Builder
	var tenPongs, manyPongs []string
	for i := range 300 {
		p := fmt.Sprint("ping ", i)
		if i < 10 {
			ten.WriteString(f(fin|opPing, p))
			tenPongs = append(tenPongs, p)
		}
		many.WriteString(f(fin|opPing, p))
		manyPongs = append(manyPongs, p)
	}
	big := payload(200_000)
	// The header has 8 bytes.
	frame := f(fin|opBinary, payload(300))
	return append(all,
		passes("ten pings", ten.String(), "", tenPongs...),
		passes("ten pings", ten.String(), "", tenPongs...).chopped(1),
		passes("300 pings", many.String(), "", manyPongs...),
		passes("ping with bytes that are no text", f(fin|opPing, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), "", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
		passes("ping before data", f(fin|opPing, "p")+f(fin|opText, "data"), "data", "p"),
		passes("ping behind data", f(fin|opText, "data")+f(fin|opPing, "p"), "data", "p"),
		passes("ping behind much data", f(fin|opBinary, big)+f(fin|opPing, "p"), big, "p"),
		passes("ping between fragments", f(opText, "ab")+f(fin|opPing, "p")+f(fin|opCont, "cd"), "abcd", "p"),
		passes("ping between fragments", f(opText, "ab")+f(fin|opPing, "p")+f(fin|opCont, "cd"), "abcd", "p").chopped(1),
		passes("pings between many fragments", f(opBinary, "a")+strings.Repeat(f(fin|opPing, "p")+f(opCont, "a"), 20)+f(fin|opCont, "a"),
			strings.Repeat("a", 22), strings.Split(strings.Repeat("p", 20), "")...),
		wsCase{name: "pings while a message waits for its next fragment", steps: []wsStep{
			{send: f(opBinary, "ab") + f(fin|opPing, "1"), data: "ab", pongs: []string{"1"}},
			{send: f(fin|opPing, "2"), pongs: []string{"2"}},
			{send: f(opCont, "") + f(fin|opPing, "3"), pongs: []string{"3"}},
			{send: f(opCont, "cd") + f(fin|opPing, "4"), data: "cd", pongs: []string{"4"}},
			{send: f(fin|opCont, ""), data: ""},
			{send: f(fin|opText, "ef"), data: "ef"}}},
		wsCase{name: "payload passes while the rest of its frame is awaited", steps: []wsStep{
			{send: frame[:8+200], data: payload(200)}, {send: frame[8+200:] + f(fin|opPing, "p"), data: payload(300)[200:], pongs: []string{"p"}}}},
		passes("ping before a message that a ping follows at once", f(fin|opPing, "1")+f(fin|opText, "x")+f(fin|opPing, "2")+f(fin|opText, "y"), "xy", "1", "2"),
		passes("unsolicited pong", f(fin|opPong, "")+f(fin|opText, "x"), "x"),
		passes("unsolicited pong with payload", f(fin|opPong, "unasked")+f(fin|opText, "x"), "x"),
		passes("unsolicited pong of 125", f(fin|opPong, binaryPayload(125))+f(fin|opText, "x"), "x"),
		passes("unsolicited pong, then a ping", f(fin|opPong, "unasked")+f(fin|opPing, "p"), "", "p"),
		passes("unsolicited pong between fragments", f(opText, "ab")+f(fin|opPong, "unasked")+f(fin|opCont, "cd"), "abcd"),
		passes("a thousand unsolicited pongs", strings.Repeat(f(fin|opPong, "unasked"), 1000)+f(fin|opPing, "p"), "", "p"),
		ends("ping of 126", f(fin|opPing, binaryPayload(126)), 1002, ""),
		ends("ping of 126", f(fin|opPing, binaryPayload(126)), 1002, "").chopped(1),
		ends("ping of 65536", f(fin|opPing, binaryPayload(65536)), 1002, ""),
		ends("ping that announces 126 and stalls", announce(fin|opPing, 2, 126, ""), 1002, ""),
		ends("ping that announces 2^63-1", announce(fin|opPing, 8, 1<<63-1, ""), 1002, ""),
		ends("pong of 126", f(fin|opPong, binaryPayload(126)), 1002, ""),
		ends("fragmented ping", f(opPing, "p"), 1002, ""),
		ends("fragmented pong", f(opPong, "p"), 1002, ""),
		ends("fragmented ping and its rest", f(opPing, "p")+f(fin|opCont, "q"), 1002, ""),
		ends("fragmented ping inside a message", f(opText, "ab")+f(opPing, "p")+f(fin|opCont, "cd"), 1002, "ab"),
		wsCase{name: "ping, then an unknown opcode", steps: []wsStep{{send: f(fin|opPing, "p"), pongs: []string{"p"}}, {send: f(fin|3, "")}}, code: 1002},
	)
}

// reservedCases use bits and opcodes that have not been negotiated.
func reservedCases() []wsCase {
	var all []wsCase
	for _, op := range []byte{opText, opBinary, opClose, opPing, opPong} {
		for rsv := byte(rsv3); rsv <= rsv1|rsv2|rsv3; rsv += rsv3 {
			name := fmt.Sprintf("reserved bits %#x on opcode %d", rsv, op)
			frame := f(fin|rsv|op, "small")
			all = append(all, ends(name, frame, 1002, ""))
			if rsv == rsv1 || rsv == rsv2 || rsv == rsv3 {
				all = append(all, ends(name+" behind a message", f(fin|opText, "before")+frame+f(fin|opPing, "after"), 1002, "before"))
			}
		}
	}
	for rsv := byte(rsv3); rsv <= rsv1|rsv2|rsv3; rsv += rsv3 {
		all = append(all,
			ends(fmt.Sprintf("reserved bits %#x on a continuation", rsv), f(opText, "before")+f(fin|rsv|opCont, "x"), 1002, "before"),
			ends(fmt.Sprintf("reserved bits %#x in pieces", rsv), f(fin|rsv|opText, "x"), 1002, "").chopped(1))
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all,
			ends(fmt.Sprintf("opcode %d", op), f(fin|op, ""), 1002, ""),
			ends(fmt.Sprintf("opcode %d with payload", op), f(fin|op, "payload"), 1002, ""),
			ends(fmt.Sprintf("opcode %d, not final", op), f(op, "payload"), 1002, ""),
			ends(fmt.Sprintf("opcode %d behind a message", op), f(fin|opText, "before")+f(fin|op, "")+f(fin|opPing, "after"), 1002, "before"),
			ends(fmt.Sprintf("opcode %d inside a message", op), f(opText, "before")+f(fin|op, "x")+f(fin|opCont, "after"), 1002, "before"),
			wsCase{name: fmt.Sprintf("opcode %d after an answer", op), code: 1002,
				steps: []wsStep{{send: f(fin|opText, "hello"), data: "hello"}, {send: f(fin|op, "x")}}})
	}
	return all
}

func fragmentCases(payload func(int) string) []wsCase {
	two := fragments(opText, "frag1", "frag2")
	all := []wsCase{
		passes("two fragments", two, "frag1frag2"),
		passes("two fragments", two, "frag1frag2").chopped(1),
		passes("two binary fragments", fragments(opBinary, payload(10), payload(20)), payload(10)+payload(20)),
		passes("an empty first fragment", fragments(opText, "", "x"), "x"),
		passes("an empty last fragment", fragments(opText, "x", ""), "x"),
		passes("empty fragments around", fragments(opText, "", "x", ""), "x"),
		passes("empty fragments between", fragments(opText, "x", "", "", "", "y"), "xy"),
		passes("nothing but empty fragments", fragments(opText, "", "", "")+f(fin|opText, "x"), "x"),
		passes("two messages of fragments", two+two, "frag1frag2frag1frag2"),
		passes("fragments of every size", fragments(opBinary, payload(1), payload(125), payload(126), payload(65535), payload(65536)),
			payload(1)+payload(125)+payload(126)+payload(65535)+payload(65536)),
		passes("each byte a fragment", fragments(opText, strings.Split("each byte a fragment", "")...), "each byte a fragment"),
		passes("each byte a fragment", fragments(opText, strings.Split("each byte a fragment", "")...), "each byte a fragment").chopped(1),
		passes("a thousand empty fragments", fragments(opText, make([]string, 1000)...)+f(fin|opPing, "p"), "", "p"),
		{name: "fragments that wait for each other's echo", steps: []wsStep{
			{send: f(opText, "one"), data: "one"}, {send: f(opCont, "two"), data: "two"}, {send: f(fin|opCont, "three"), data: "three"}}},
		ends("new text inside a message", f(opText, "one")+f(fin|opText, "two"), 1002, "one"),
		ends("new binary inside a message", f(opText, "one")+f(fin|opBinary, "two"), 1002, "one"),
		ends("new text inside a binary message", f(opBinary, "one")+f(fin|opText, "two"), 1002, "one"),
		ends("new binary inside a binary message", f(opBinary, "one")+f(opBinary, "two"), 1002, "one"),
		ends("new text inside a message", f(opText, "one")+f(fin|opText, "two"), 1002, "one").chopped(1),
		ends("five data frames without FIN", strings.Repeat(f(opText, "one"), 5), 1002, "one"),
		ends("new message behind an empty first fragment", f(opText, "")+f(fin|opText, "x"), 1002, ""),
		{name: "new message inside a message, after an answer", code: 1002, steps: []wsStep{
			{send: f(opText, "one"), data: "one"}, {send: f(fin|opText, "two")}}},
		{name: "stray continuation after a message", code: 1002, steps: []wsStep{
			{send: f(fin|opText, "one"), data: "one"}, {send: f(fin|opCont, "two")}}},
		{name: "stray continuation after fragments", code: 1002, steps: []wsStep{
			{send: two, data: "frag1frag2"}, {send: f(opCont, "more")}}},
	}
	for _, b0 := range []byte{opCont, fin | opCont} {
		stray := f(b0, "stray")
		all = append(all,
			ends(fmt.Sprintf("stray continuation %#x", b0), stray, 1002, ""),
			ends(fmt.Sprintf("stray empty continuation %#x", b0), f(b0, ""), 1002, ""),
			ends(fmt.Sprintf("stray continuation %#x", b0), stray, 1002, "").chopped(1),
			ends(fmt.Sprintf("stray continuation %#x before a message", b0), stray+f(fin|opText, "x"), 1002, ""),
			ends(fmt.Sprintf("stray continuation %#x behind a message", b0), f(fin|opText, "one")+stray, 1002, "one"),
			ends(fmt.Sprintf("stray continuation %#x behind fragments", b0), two+stray, 1002, "frag1frag2"),
			ends(fmt.Sprintf("stray continuation %#x behind a ping", b0), f(fin|opPong, "")+stray, 1002, ""))
	}
	return all
}

func maskCases() []wsCase {
	zero := string(appendHeader(nil, fin|opText, 0, 5, true)[:2]) + "\x00\x00\x00\x00hello"
	return []wsCase{
		passes("a mask of zero", zero, "hello"),
		passes("masks of zero and others", zero+f(fin|opText, "hello")+zero, "hellohellohello"),
		passes("a mask of ones", string([]byte{fin | opBinary, 0x85, 0xff, 0xff, 0xff, 0xff})+"\x97\x9a\x93\x93\x90", "hello"),
		ends("unmasked text", unmasked(fin|opText, "hello"), 1002, ""),
		ends("unmasked text", unmasked(fin|opText, "hello"), 1002, "").chopped(1),
		ends("unmasked binary", unmasked(fin|opBinary, "hello"), 1002, ""),
		ends("unmasked empty text", unmasked(fin|opText, ""), 1002, ""),
		ends("unmasked ping", unmasked(fin|opPing, "hello"), 1002, ""),
		ends("unmasked pong", unmasked(fin|opPong, ""), 1002, ""),
		ends("unmasked Close", unmasked(fin|opClose, "\x03\xe8"), 1002, ""),
		ends("unmasked continuation", f(opText, "one")+unmasked(fin|opCont, "two"), 1002, "one"),
		ends("unmasked behind masked", f(fin|opText, "one")+unmasked(fin|opText, "two"), 1002, "one"),
		ends("unmasked frame that announces much", string(appendHeader(nil, fin|opBinary, 8, 1<<40, false)), 1002, ""),
	}
}

func lengthCases(payload func(int) string) []wsCase {
	all := []wsCase{
		ends("length with the top bit", announce(fin|opBinary, 8, 1<<63, ""), 1002, ""),
		ends("length of all ones", announce(fin|opBinary, 8, 1<<64-1, ""), 1002, ""),
		ends("length with the top bit, and payload", announce(fin|opBinary, 8, 1<<63|5, "hello"), 1002, ""),
		ends("length with the top bit", announce(fin|opText, 8, 1<<63, ""), 1002, "").chopped(1),
		ends("length with the top bit in a continuation", f(opBinary, "one")+announce(fin|opCont, 8, 1<<63, ""), 1002, "one"),
	}
	for _, n := range []uint64{1 << 31, 1 << 32, 1 << 40, 1<<63 - 1} {
		// The server relays payload as it arrives, before the frame is complete. The case ends with
		// a reset, as the connection is in the middle of a frame.
		all = append(all, wsCase{name: fmt.Sprintf("incomplete frame of %d", n), code: unended,
			steps: []wsStep{{send: announce(fin|opBinary, 8, n, "hello"), data: "hello"}}})
	}
	// A length encoded in more bytes than necessary is the sender's fault, but unambiguous.
	for _, n := range []int{1, 125} {
		all = append(all,
			passes(fmt.Sprintf("length %d in 2 bytes", n), announce(fin|opBinary, 2, uint64(n), payload(n)), payload(n)),
			passes(fmt.Sprintf("length %d in 8 bytes", n), announce(fin|opBinary, 8, uint64(n), payload(n)), payload(n)))
	}
	return append(all, passes("length 65535 in 8 bytes", announce(fin|opBinary, 8, 65535, payload(65535)), payload(65535)))
}

// closeCases end the connection in every way that a Close frame allows.
func closeCases() []wsCase {
	all := []wsCase{
		ends("empty Close", f(fin|opClose, ""), noStatus, ""),
		ends("empty Close", f(fin|opClose, ""), noStatus, "").chopped(1),
		ends("Close of one byte", f(fin|opClose, "\x03"), 1002, ""),
		ends("Close of one byte", f(fin|opClose, "\x03"), 1002, "").chopped(1),
		ends("Close with a reason", closing(1000, "Hello World!"), 1000, ""),
		ends("Close with the longest reason", closing(1000, strings.Repeat("*", 123)), 1000, ""),
		ends("Close with the longest reason", closing(1000, strings.Repeat("*", 123)), 1000, "").chopped(1),
		ends("Close with a reason of many bytes a letter", closing(1000, strings.Repeat("€", 41)), 1000, ""),
		ends("Close with a reason too long", closing(1000, strings.Repeat("*", 124)), 1002, ""),
		ends("Close that announces 65536", announce(fin|opClose, 8, 65536, ""), 1002, ""),
		ends("fragmented Close", f(opClose, "\x03\xe8"), 1002, ""),
		ends("fragmented empty Close", f(opClose, ""), 1002, ""),
		ends("Close twice", closing(1000, "")+closing(1000, ""), 1000, ""),
		ends("Close twice with another code", closing(1000, "")+closing(1001, ""), 1000, ""),
		ends("Close, then a ping", closing(1000, "")+f(fin|opPing, "p"), 1000, ""),
		ends("Close, then text", closing(1000, "")+f(fin|opText, "late"), 1000, ""),
		ends("Close, then what is no frame", closing(1000, "")+strings.Repeat("\xff", 1000), 1000, ""),
		ends("Close, then unmasked text", closing(1000, "")+unmasked(fin|opText, "late"), 1000, ""),
		ends("Close, then the half of a frame", closing(1000, "")+announce(fin|opText, 2, 1000, "half"), 1000, ""),
		ends("Close, then 256 KiB", closing(1000, "")+f(fin|opBinary, strings.Repeat("*", 256<<10)), 1000, ""),
		ends("ping, then Close", f(fin|opPong, "p")+closing(1000, ""), 1000, ""),
		ends("text, then Close", f(fin|opText, "data")+closing(1000, ""), 1000, "data"),
		ends("text, then Close", f(fin|opText, "data")+closing(1000, ""), 1000, "data").chopped(1),
		ends("256 KiB, then Close", f(fin|opBinary, strings.Repeat("*", 256<<10))+closing(1000, ""), 1000, strings.Repeat("*", 256<<10)),
		ends("256 KiB, then Close and a ping", f(fin|opBinary, strings.Repeat("*", 256<<10))+closing(1000, "")+f(fin|opPing, "p"), 1000, strings.Repeat("*", 256<<10)),
		ends("Close between fragments", f(opText, "half")+closing(1000, ""), 1000, "half"),
		ends("Close between fragments, then the rest", f(opText, "half")+closing(1000, "")+f(fin|opCont, "rest"), 1000, "half"),
		ends("Close between the bytes of a code point", f(opText, "\xe2\x82")+closing(1000, ""), 1000, "\xe2\x82"),
		{name: "Close after an answer", code: 1001, steps: []wsStep{{send: f(fin|opText, "x"), data: "x"}, {send: closing(1001, "")}}},
		{name: "Close after pings", code: 3000, steps: []wsStep{{send: f(fin|opPing, "x"), pongs: []string{"x"}}, {send: closing(3000, "")}}},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4999} {
		all = append(all, ends(fmt.Sprintf("Close %d", code), closing(code, ""), code, ""),
			ends(fmt.Sprintf("Close %d with a reason", code), closing(code, "reason"), code, ""))
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1099, 1100, 1999, 2000, 2001, 2999, 5000, 5001, 9999, 32768, 65535} {
		all = append(all, ends(fmt.Sprintf("Close %d, which may not be sent", code), closing(code, ""), 1002, ""),
			ends(fmt.Sprintf("Close %d, which may not be sent, with a reason", code), closing(code, "reason"), 1002, ""))
	}
	for _, c := range invalidUTF8 {
		all = append(all, ends("Close whose reason is "+c.name, closing(1000, c.good+c.bad), 1007, ""))
	}
	for _, s := range validUTF8 {
		if len(s) <= 123 {
			all = append(all, ends(fmt.Sprintf("Close whose reason is %+q", s), closing(1000, s), 1000, ""))
		}
	}
	return append(all,
		ends("Close whose reason is not UTF-8 at its end", closing(1000, strings.Repeat("x", 122)+"\xff"), 1007, ""),
		ends("Close whose reason ends inside a code point", closing(1000, strings.Repeat("x", 121)+"\xe2\x82"), 1007, ""),
		ends("Close with a bad code and a bad reason", closing(999, "\xff"), 1002, ""),
	)
}

// outputCases check the message type of the data from the backend.
func outputCases(text bool) []wsCase {
	long := strings.Repeat("aé€😀", 50_000)
	all := []wsCase{
		passes("code points of every length", f(fin|opText, long), long),
		passes("code points in binary messages, each byte one", fragmentsOfOne(opBinary, long[:1000]), long[:1000]),
		passes("code points in messages of seven bytes", messagesOf(7, long[:7000]), long[:7000]),
	}
	if text {
		// The backend sends bytes that are not UTF-8; the text before them is delivered.
		for _, c := range invalidUTF8 {
			if c.bad != "" {
				all = append(all, wsCase{name: "binary from the backend for text: " + c.name, code: unsendable, may: "valid " + c.good,
					steps: []wsStep{{send: f(fin|opBinary, "valid "+c.good+c.bad)}}})
			}
		}
		return all
	}
	for _, c := range invalidUTF8 {
		all = append(all, passes("binary message: "+c.name, f(fin|opBinary, c.good+c.bad), c.good+c.bad))
	}
	return append(all, passes("every byte value", f(fin|opBinary, binaryPayload(1<<16)), binaryPayload(1<<16)))
}

func fragmentsOfOne(op byte, s string) string {
	parts := make([]string, len(s))
	for i := range len(s) {
		parts[i] = s[i : i+1]
	}
	return fragments(op, parts...)
}

// messagesOf cuts s into binary messages of n bytes.
func messagesOf(n int, s string) string {
	var b []byte
	for len(s) > 0 {
		k := min(n, len(s))
		b = appendFrame(b, fin|opBinary, []byte(s[:k]))
		s = s[k:]
	}
	return string(b)
}
