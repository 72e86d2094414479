package dial

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"syscall"
)

// maxReplyHead is the maximal size in bytes of the head of a reply from a proxy or a server, including interim
// replies.
const maxReplyHead = 16 << 10

// A reply is the head of an HTTP/1.x reply.
type reply struct {
	status int
	reason string
	header textproto.MIMEHeader
}

var errReplyTooLarge = fmt.Errorf("the reply's head exceeds %d KiB", maxReplyHead>>10)

// A notHTTPError reports a reply that is not HTTP/1.x.
type notHTTPError struct{ first []byte }

func (e *notHTTPError) Error() string {
	return fmt.Sprintf("the reply is not HTTP, it begins with %q", e.first)
}

// looksLikeTLS reports whether the reply begins like a TLS record with an alert or a handshake message.
func (e *notHTTPError) looksLikeTLS() bool {
	return len(e.first) >= 2 && (e.first[0] == 0x15 || e.first[0] == 0x16) && e.first[1] == 3
}

// readReply reads the head of a final reply or a 101, skips other interim replies (RFC 9110, section 15.2), and
// leaves the bytes after it in br. It fails as soon as the bytes cannot be HTTP, without waiting for the end of
// a line. The error is io.EOF if the connection closes before the first byte, and io.ErrUnexpectedEOF later.
func readReply(br *bufio.Reader) (*reply, error) {
	budget := maxReplyHead
	for {
		r, err := readReplyHead(br, &budget)
		if err != nil {
			return nil, err
		}
		if r.status >= 200 || r.status == 101 {
			return r, nil
		}
	}
}

// exchange sends a request and reads the reply, also if sending has failed: a peer that refuses a connection may
// reply and close before it has read the request, and its reply says why.
func exchange(nc net.Conn, br *bufio.Reader, request []byte) (*reply, error) {
	_, werr := nc.Write(request)
	r, err := readReply(br)
	if err != nil && werr != nil && !isRemoteAlert(err) {
		err = werr
	}
	return r, err
}

// readReplyHead reads one head, of at most budget bytes, which it decreases.
func readReplyHead(br *bufio.Reader, budget *int) (*reply, error) {
	const magic = "HTTP/1."
	for i := range len(magic) {
		b, err := br.Peek(i + 1)
		if err != nil {
			if i > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if b[i] != magic[i] {
			b, _ = br.Peek(min(br.Buffered(), 32))
			return nil, &notHTTPError{first: bytes.Clone(b)}
		}
	}
	statusLine, err := readReplyLine(br, budget)
	if err != nil {
		return nil, err
	}
	r, err := parseStatusLine(string(statusLine))
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	for {
		line, err := readReplyLine(br, budget)
		if err != nil {
			return nil, err
		}
		head.Write(line)
		head.WriteString("\r\n")
		if len(line) == 0 {
			break
		}
	}
	r.header, err = textproto.NewReader(bufio.NewReader(&head)).ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("the reply's header is malformed: %s", printable(err.Error()))
	}
	return r, nil
}

// readReplyLine returns the next line without its CR LF or LF.
func readReplyLine(br *bufio.Reader, budget *int) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		*budget -= len(part)
		if *budget < 0 {
			return nil, errReplyTooLarge
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// parseStatusLine parses "HTTP/1.x NNN" with or without a reason phrase.
func parseStatusLine(line string) (*reply, error) {
	bad := func() (*reply, error) {
		return nil, fmt.Errorf("the reply's status line is malformed: %q", printable(line))
	}
	version, rest, ok := strings.Cut(line, " ")
	if !ok || len(version) != len("HTTP/1.x") || version[7] < '0' || version[7] > '9' {
		return bad()
	}
	code, reason, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	if len(code) != 3 {
		return bad()
	}
	status := 0
	for _, c := range []byte(code) {
		if c < '0' || c > '9' {
			return bad()
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return bad()
	}
	return &reply{status: status, reason: printable(strings.TrimSpace(reason))}, nil
}

// ioFailure returns the error and the hint for a failed read or write during the proxy and upgrade steps.
func ioFailure(err error, who string) (text error, hint string) {
	switch {
	case timedOut(err):
		return &described{"no answer from " + who + " in time", err}, "check that the address is right and that " + who + " is not overloaded"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &described{who + " reset the connection", err}, "a firewall may have cut it, or " + who + " does not speak this protocol on this port"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &described{who + " closed the connection", err}, "a firewall may have cut it, or " + who + " does not speak this protocol on this port"
	case errors.Is(err, errReplyTooLarge):
		return err, "check the address: " + who + " is not an HTTP server"
	}
	return err, "check the address: " + who + " may not speak this protocol on this port"
}

// authSchemes returns the names of the schemes in Proxy-Authenticate or WWW-Authenticate fields, each once. A
// field may have several challenges (RFC 9110, section 11.6.1); a part that is a name=value pair belongs to the
// challenge before it.
func authSchemes(fields []string) []string {
	const maxSchemes = 8
	var names []string
	for _, f := range fields {
		for _, part := range splitUnquoted(f) {
			name, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if name == "" || strings.ContainsAny(name, "=\"") {
				continue
			}
			name = printable(name)
			seen := slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
			if !seen && len(names) < maxSchemes {
				names = append(names, name)
			}
		}
	}
	return names
}

// splitUnquoted splits s at commas outside quoted strings.
func splitUnquoted(s string) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, s[start:])
}
