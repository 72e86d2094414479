//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// This suite checks a route for what RFC 6455 requires of a server. Behind the route is a byte
// stream: payload returns in order, in messages of any size.

// A wsCase is one row: what the client sends and what it must receive.
type wsCase struct {
	name  string
	steps []wsStep
	// code is the status code of the Close frame with which the server ends the connection. 0 means
	// that the client closes after the last step.
	code int
	may  string // this payload of the last step, or a prefix of it, may precede the Close
}

// A wsStep is sent when all that the step before it expects has arrived.
type wsStep struct {
	send  string
	chop  int      // bytes per Write; 0: all at once
	data  string   // expected payload
	pongs []string // expected pongs, in order
}

// Special values of code.
const (
	unended    = -1 // the client resets
	unsendable = -2 // the backend sends bytes that are not UTF-8: the server closes with 1011, the client answers
)

// passes returns a case of one step after which the connection is open.
func passes(name, send, data string, pongs ...string) wsCase {
	return wsCase{name: name, steps: []wsStep{{send: send, data: data, pongs: pongs}}}
}

// ends returns a case of one step after which the server closes with code. How much of may, the
// data before the fault, still arrives depends on the speed of the backend.
func ends(name, send string, code int, may string) wsCase {
	return wsCase{name: name, steps: []wsStep{{send: send}}, code: code, may: may}
}

// chopped returns the same case, written in pieces of n bytes.
func (c wsCase) chopped(n int) wsCase {
	c.name = fmt.Sprintf("%s, in pieces of %d", c.name, n)
	c.steps = slices.Clone(c.steps)
	for i := range c.steps {
		c.steps[i].chop = n
	}
	return c
}

// run runs the case.
func (c wsCase) run(p *peer) error {
	defer p.Close()
	var data string
	var pongs []string
	for i, s := range c.steps {
		last := i == len(c.steps)-1
		data += s.data
		pongs = append(pongs, s.pongs...)
		err := whileWriting(p, s.send, s.chop, func() error {
			switch {
			case last && c.code == unsendable:
				return p.untilAnswered()
			case last && c.code > 0:
				return p.untilClose()
			}
			return p.until(func() bool { return len(p.data) >= len(data) && len(p.pongs) >= len(pongs) })
		})
		if err != nil {
			return fmt.Errorf("step %d: %w; so far %d bytes, %d pongs", i+1, err, len(p.data), len(p.pongs))
		}
	}
	switch {
	case c.code == 0:
		if err := p.bye(); err != nil {
			return err
		}
	case c.code == unended:
		p.Reset()
	case c.code == unsendable:
		if p.code != 1011 {
			return fmt.Errorf("closed with %d %q, want 1011", p.code, p.reason)
		}
	case p.code != c.code:
		return fmt.Errorf("closed with %d %q, want %d", p.code, p.reason, c.code)
	}
	got, isBeginning := strings.CutPrefix(string(p.data), data)
	if !isBeginning || !strings.HasPrefix(c.may, got) {
		return fmt.Errorf("the data %.100q came back, want %.100q", p.data, data+c.may)
	}
	if !slices.Equal(p.pongs, pongs) {
		return fmt.Errorf("the pongs %.200q came, want %.200q", p.pongs, pongs)
	}
	return nil
}

// whileWriting calls read while it writes b. read judges an end of the connection.
func whileWriting(p *peer, b string, chop int, read func() error) error {
	wrote := make(chan struct{})
	go func() {
		p.write(b, chop)
		close(wrote)
	}()
	err := read()
	if err != nil {
		// This unblocks the writer.
		p.Close()
	}
	<-wrote
	return err
}

// TestConformance runs every case against a route in front of an echo backend.
func TestConformance(t *testing.T) {
	backend := machine(t).listen(t, "127.0.0.1:0")
	serve(t, backend, func(conn net.Conn) { io.Copy(conn, conn) })
	r := startRoutes(t, route("/binary", backend.Addr().String(), `frame-type = "binary"`)+
		route("/text", backend.Addr().String(), `frame-type = "text"`))
	for _, by := range transports {
		for _, mode := range []string{"binary", "text"} {
			t.Run(string(by)+"/"+mode, func(t *testing.T) {
				t.Parallel()
				text := mode == "text"
				passed, all := 0, 0
				play := func(name string, run func(*peer) error) {
					all++
					if all-passed > 20 {
						t.Fatal("too many failures: the remaining cases are skipped")
					}
					ok := t.Run(name, func(t *testing.T) {
						p, err := r.dial(by, "/"+mode, text, "")
						if err == nil {
							err = run(p)
						}
						if err != nil {
							t.Error(err)
						}
					})
					if ok {
						passed++
					}
				}
				for _, c := range conformanceCases(text) {
					play(c.name, c.run)
				}
				for _, c := range sizeCases(text) {
					if !testing.Short() || c.size <= 1<<20 {
						play(c.name(), c.run)
					}
				}
				t.Logf("%d of %d cases pass", passed, all)
			})
		}
	}
	t.Cleanup(func() { r.settle(t) })
}

// conformanceCases returns all cases except those of size.
func conformanceCases(text bool) []wsCase {
	payload := binaryPayload
	if text {
		payload = textPayload
	}
	return slices.Concat(framingCases(payload), pingCases(payload), reservedCases(), fragmentCases(payload),
		maskCases(), lengthCases(payload), utf8Cases(), closeCases(), outputCases(text))
}

// binaryPayload contains every byte value.
func binaryPayload(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return string(b)
}

// textPayload contains code points of every encoded length, and ends with a complete one.
func textPayload(n int) string {
	const all = "aé€😀"
	return strings.Repeat(all, n/len(all)) + strings.Repeat("x", n%len(all))
}
