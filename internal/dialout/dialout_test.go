package dialout_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/internal/dialout"
	"adit/internal/testnet"
	"adit/mux"
	"adit/tunnel"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is how long a test waits for something that should come soon.
const timeout = 30 * time.Second

// event is one call of an Observer.
type event struct {
	name             string // "connected", "refused" or "closed"
	target           string
	address          string
	code             mux.Code
	err              error
	toTarget, toPeer int64
}

// observer sends what an Observer is told to a channel.
type observer struct {
	target string
	events chan event
}

func (o observer) Connected(c net.Conn, _ *tunnel.Progress) {
	o.events <- event{name: "connected", target: o.target, address: c.RemoteAddr().String()}
}

func (o observer) Refused(code mux.Code, err error) {
	o.events <- event{name: "refused", target: o.target, code: code, err: err}
}

func (o observer) Closed(toTarget, toPeer int64, err error) {
	o.events <- event{name: "closed", target: o.target, toTarget: toTarget, toPeer: toPeer, err: err}
}

// peer is the far end of a session whose streams a Handler serves.
type peer struct {
	*mux.Session
	events chan event
	cancel context.CancelFunc // ends the context of all streams
}

// sessions returns the two ends of a session over loopback.
func sessions(t *testing.T) (near, far *mux.Session) {
	t.Helper()
	accepted := make(chan *mux.Session, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, &ws.AcceptOptions{Conn: ws.Options{LatestPongOnly: true}})
		if err != nil {
			t.Error(err)
			return
		}
		m, err := mux.Server(context.Background(), conn, nil)
		if err != nil {
			t.Error(err)
		}
		accepted <- m
	})}
	ln := testnet.Listen(t)
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	conn, err := dial.Dial(t.Context(), "ws://"+ln.Addr().String()+"/", &dial.Options{Conn: ws.Options{LatestPongOnly: true}})
	if err != nil {
		t.Fatal(err)
	}
	if far, err = mux.Client(t.Context(), conn, &mux.Config{ResumeTimeout: -1}); err != nil {
		t.Fatal(err)
	}
	if near = <-accepted; near == nil {
		t.FailNow()
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	return near, far
}

// serve runs h for the streams of a new session until the test ends.
func serve(t *testing.T, h *dialout.Handler) *peer {
	t.Helper()
	near, far := sessions(t)
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{far, make(chan event, 16), cancel}
	h.Observe = func(t mux.Target) dialout.Observer { return observer{t.String(), p.events} }
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			st, err := near.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				if relay := h.Connect(ctx, st); relay != nil {
					relay()
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		far.Close()
		near.Close()
		serving.Wait()
	})
	return p
}

// open opens a stream to a TCP address.
func (p *peer) open(t *testing.T, address string) *mux.Stream {
	t.Helper()
	st, err := p.Open(t.Context(), mux.Target{Kind: mux.TCP, Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// connect opens a stream that has to be connected.
func (p *peer) connect(t *testing.T, address string) *mux.Stream {
	t.Helper()
	st := p.open(t, address)
	if err := st.Result(); err != nil {
		t.Fatal(err)
	}
	if e := p.next(t); e.name != "connected" || e.target != address || e.address != address {
		t.Fatalf("%+v", e)
	}
	return st
}

// refusal opens a stream that has to be refused.
func (p *peer) refusal(t *testing.T, address string) (*mux.RefusedError, event) {
	t.Helper()
	var refused *mux.RefusedError
	if err := p.open(t, address).Result(); !errors.As(err, &refused) {
		t.Fatalf("%s: %v", address, err)
	}
	e := p.next(t)
	if e.name != "refused" || e.target != address || e.code != refused.Code || e.err == nil {
		t.Errorf("%+v, and the peer was told %v", e, refused)
	}
	return refused, e
}

func (p *peer) next(t *testing.T) event {
	t.Helper()
	select {
	case e := <-p.events:
		return e
	case <-time.After(timeout):
		t.Fatal("the observer is not told")
		return event{}
	}
}

// anywhere authorizes every TCP address.
func anywhere(t mux.Target) (dialout.Destination, error) {
	to, err := dialout.ParseHostPort(t.Address)
	return dialout.Destination{Address: to}, err
}

func TestRelay(t *testing.T) {
	p := serve(t, &dialout.Handler{Authorize: anywhere})
	t.Run("half-close", func(t *testing.T) {
		st := p.connect(t, testnet.Serve(t, func(c net.Conn) {
			b, err := io.ReadAll(c) // until the peer ends its direction
			fmt.Fprintf(c, "%s, %v", b, err)
		}))
		st.Write([]byte("question"))
		st.CloseWrite()
		if b, err := io.ReadAll(st); err != nil || string(b) != "question, <nil>" {
			t.Errorf("%q, %v", b, err)
		}
		if e := p.next(t); e.name != "closed" || e.err != nil || e.toTarget != 8 || e.toPeer != 15 {
			t.Errorf("%+v", e)
		}
	})
	t.Run("reset by the target", func(t *testing.T) {
		st := p.connect(t, testnet.Serve(t, func(c net.Conn) {
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
		}))
		st.Write([]byte("x"))
		var reset *mux.ResetError
		if _, err := io.ReadAll(st); !errors.As(err, &reset) {
			t.Errorf("%v", err)
		}
		if e := p.next(t); e.name != "closed" || e.err == nil || e.toTarget != 1 {
			t.Errorf("%+v", e)
		}
	})
	for name, end := range map[string]func(*peer, *mux.Stream){
		"reset by the peer":  func(_ *peer, st *mux.Stream) { st.Abort() },
		"end of the context": func(p *peer, _ *mux.Stream) { p.cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, &dialout.Handler{Authorize: anywhere})
			got := make(chan error, 1)
			st := p.connect(t, testnet.Serve(t, func(c net.Conn) {
				_, err := io.ReadAll(c)
				got <- err
			}))
			end(p, st)
			if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the target read %v", err)
			}
			if e := p.next(t); e.name != "closed" || e.err == nil {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	denied := errors.New("a secret of this side")
	p := serve(t, &dialout.Handler{
		Resolver: testnet.NewResolver(t, nil),
		Timeout:  300 * time.Millisecond,
		Authorize: func(to mux.Target) (dialout.Destination, error) {
			if to.Address == "10.0.0.1:22" {
				return dialout.Destination{}, &dialout.Refusal{Code: mux.Forbidden, Reason: "not for you", Err: denied}
			}
			return anywhere(to)
		},
	})
	for _, c := range []struct {
		address string
		want    mux.Code
	}{
		{"10.0.0.1:22", mux.Forbidden},
		{"nowhere", mux.Failed},
		{testnet.RefusedAddr(t), mux.Refused},
		{"no.such.test:1", mux.NotFound},
		{"broken.test:1", mux.Failed},
	} {
		refused, e := p.refusal(t, c.address)
		if refused.Code != c.want || refused.Reason == "" || strings.Contains(refused.Reason, "secret") {
			t.Errorf("%s: %v, want %v", c.address, refused, c.want)
		}
		if c.want == mux.Forbidden && (!errors.Is(e.err, denied) || refused.Reason != "not for you") {
			t.Errorf("the observer was told %v, the peer %v", e.err, refused)
		}
	}
}

func TestNoTarget(t *testing.T) {
	near, far := sessions(t)
	opened, err := far.Open(t.Context(), mux.Target{Kind: mux.TCP, Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	st, err := near.Accept()
	if err != nil {
		t.Fatal(err)
	}
	st.ReadTarget() // leaves nothing for Serve to read
	opened.Reset(mux.Cancelled)
	var got error
	h := &dialout.Handler{
		Authorize: anywhere,
		NoTarget:  func(err error) { got = err },
		Observe: func(mux.Target) dialout.Observer {
			t.Error("a stream without a target is observed")
			return observer{events: make(chan event, 16)}
		},
	}
	if relay := h.Connect(t.Context(), st); relay != nil || got == nil {
		t.Error("the handler is not told of a stream without a target")
	}
}

// Check is asked about the addresses that a name resolves to, and the first
// that it agrees to is used.
func TestCheckOfResolvedAddresses(t *testing.T) {
	echo := testnet.Echo(t)
	port := netip.MustParseAddrPort(echo).Port()
	first, second := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	var mu sync.Mutex
	var asked []netip.Addr
	h := &dialout.Handler{
		Resolver: testnet.NewResolver(t, map[string][]netip.Addr{"two.test": {first, second}, "bad.test": {first}}),
		Authorize: func(to mux.Target) (dialout.Destination, error) {
			d, err := anywhere(to)
			d.Check = func(resolved netip.AddrPort) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, resolved.Addr())
				if resolved != netip.AddrPortFrom(second, port) {
					return &dialout.Refusal{Code: mux.Forbidden, Reason: "no", Err: errors.New("not that one")}
				}
				return nil
			}
			return d, err
		},
	}
	p := serve(t, h)
	if err := p.open(t, fmt.Sprintf("two.test:%d", port)).Result(); err != nil {
		t.Fatal(err)
	}
	if e := p.next(t); e.address != echo {
		t.Errorf("%+v", e)
	}
	mu.Lock()
	if !slices.Equal(asked, []netip.Addr{first, second}) {
		t.Errorf("asked about %v", asked)
	}
	mu.Unlock()
	if refused, _ := p.refusal(t, fmt.Sprintf("bad.test:%d", port)); refused.Code != mux.Forbidden {
		t.Errorf("%v", refused)
	}
}

// A connection attempt ends with its stream, and with the context of the
// session.
func TestAbandonedAttempt(t *testing.T) {
	asked, over := make(chan struct{}, 1), make(chan struct{})
	defer close(over) // package net goes on with a lookup that nobody waits for
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-over
		return nil, net.ErrClosed
	}}
	for name, end := range map[string]func(*peer, *mux.Stream){
		"stream":  func(_ *peer, st *mux.Stream) { st.Reset(mux.Cancelled) },
		"context": func(p *peer, _ *mux.Stream) { p.cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, &dialout.Handler{Authorize: anywhere, Resolver: resolver})
			st := p.open(t, name+".test:1")
			<-asked
			end(p, st)
			if e := p.next(t); e.name != "refused" || e.code != mux.Cancelled {
				t.Errorf("%+v", e)
			}
		})
	}
}
