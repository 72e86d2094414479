package dial

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
)

// limitedHello passes a ClientHello of less than a packet to a good TLS server, and calls refuse for a larger one. It
// returns the address and counts the larger ones.
func limitedHello(t *testing.T, ca *testnet.CA, refuse func(net.Conn)) (string, *atomic.Int32) {
	t.Helper()
	server := wsServer(t, ca.ServerConfig(t), nil)
	var large atomic.Int32
	return testnet.Serve(t, func(c net.Conn) {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		if n := binary.BigEndian.Uint16(head[3:]); n > 1200 {
			large.Add(1)
			refuse(c)
			return
		}
		to, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		defer to.Close()
		go func() {
			io.Copy(to, io.MultiReader(bytes.NewReader(head[:]), c))
			to.Close()
		}()
		io.Copy(c, to)
	}), &large
}

func resetConn(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }

// Some firewalls lose or reset a ClientHello that does not fit into one packet.
func TestSmallHelloAfterALostLargeOne(t *testing.T) {
	for name, refuse := range map[string]func(net.Conn){"reset": resetConn, "silence": silent} {
		t.Run(name, func(t *testing.T) {
			ca := testnet.NewCA(t, "Test CA")
			addr, large := limitedHello(t, ca, refuse)
			var retried int
			var detail string
			d := Options{TLS: ca.ClientConfig(), HandshakeTimeout: time.Second, Addresses: new(Addresses), Trace: func(e Event) {
				if e.Retry && e.SmallHello && e.Err != nil {
					retried++
				}
				if e.Step == StepTLS && e.Err == nil && e.SmallHello {
					detail = e.Detail
				}
			}}
			for range 2 { // the second one begins with the small hello
				c, err := Dial(dialCtx(t), "wss://"+addr, &d)
				if err != nil {
					t.Fatal(err)
				}
				checkEcho(t, c)
				if curve := c.NetConn().(*tls.Conn).ConnectionState().CurveID; curve != tls.X25519 {
					t.Errorf("key exchange %v", curve)
				}
				c.CloseNow()
				if !strings.Contains(detail, "small ClientHello") {
					t.Errorf("the event says %q", detail)
				}
			}
			if retried != 1 || large.Load() != 1 {
				t.Errorf("%d retries, %d large hellos", retried, large.Load())
			}

			d.NoSmallHello, d.Addresses = true, nil
			_, err := Dial(dialCtx(t), "wss://"+addr, &d)
			var se *Error
			if !errors.As(err, &se) || se.Step != StepTLS || retried != 1 || large.Load() != 2 {
				t.Errorf("%v, %d retries, %d large hellos", err, retried, large.Load())
			}
		})
	}
}

func TestSmallHelloIsTriedOnce(t *testing.T) {
	var n atomic.Int32
	addr := testnet.Serve(t, func(c net.Conn) {
		n.Add(1)
		c.Read(make([]byte, 1))
		resetConn(c)
	})
	_, err := Dial(dialCtx(t), "wss://"+addr, &Options{})
	if err == nil || n.Load() != 2 {
		t.Errorf("%v after %d attempts", err, n.Load())
	}
}

func TestClassicalOnly(t *testing.T) {
	for _, tt := range []struct{ in, want []tls.CurveID }{
		{nil, []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}},
		{[]tls.CurveID{tls.X25519MLKEM768, tls.CurveP384}, []tls.CurveID{tls.CurveP384}},
	} {
		if got := classicalOnly(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v", tt.in, got)
		}
	}
}
