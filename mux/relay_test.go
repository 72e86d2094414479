package mux

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel"
)

// conn is a TCP or unix connection.
type conn interface {
	net.Conn
	CloseWrite() error
}

// rig is the whole way from an application to a backend: socket, relay,
// stream, session, stream, relay, socket.
type rig struct {
	app, backend   conn
	near, far      *Stream
	nearEnd        <-chan relayed // the results of the relays
	farEnd         <-chan relayed
	client, server *Session
}

type relayed struct {
	tunnel.Transferred
	err error
}

func newRig(t testing.TB, network string) *rig {
	client, server := newPair(t, nil)
	return newRigOn(t, client, server, network)
}

func newRigOn(t testing.TB, client, server *Session, network string) *rig {
	t.Helper()
	r := &rig{client: client, server: server}
	var appSide, backendSide net.Conn
	r.app, appSide = socketPair(t, network)
	backendSide, b := socketPair(t, network)
	r.backend = b.(conn)
	r.near, r.far = openPair(t, client, server)
	relay := func(c net.Conn, st *Stream) <-chan relayed {
		return async(func() relayed {
			n, err := tunnel.Relay(tunnel.NewSocket(c), st)
			return relayed{n, err}
		})
	}
	r.nearEnd, r.farEnd = relay(appSide, r.near), relay(backendSide, r.far)
	return r
}

func socketPair(t testing.TB, network string) (conn, net.Conn) {
	t.Helper()
	x, y := testnet.Pair(t, network)
	return x.(conn), y
}

// vanish ends a connection as a killed process does that has unread data: with
// a reset.
func vanish(c conn) {
	if tc, ok := c.(interface{ SetLinger(int) error }); ok {
		tc.SetLinger(0)
	}
	c.Close()
}

// aborted waits for both relays and fails the test if one ended well.
func (r *rig) aborted(t testing.TB) {
	t.Helper()
	if e := await(t, "end of the near relay", r.nearEnd); e.err == nil {
		t.Error("the near relay ended well")
	}
	if e := await(t, "end of the far relay", r.farEnd); e.err == nil {
		t.Error("the far relay ended well")
	}
}

// wantRST reads what is left and fails the test unless a reset ends it.
func wantRST(t testing.TB, who string, c net.Conn) {
	t.Helper()
	err := await(t, "end for the "+who, async(func() error { _, err := io.Copy(io.Discard, c); return err }))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the %s reads %v, not a reset", who, err)
	}
}

// stuff writes to c until every buffer is full, up to the other socket's: the stream
// behind c has no window left, and gets none.
func stuff(t testing.TB, c net.Conn, st *Stream) <-chan error {
	t.Helper()
	var written atomic.Int64
	writer := async(func() error {
		p := make([]byte, 64<<10)
		for {
			n, err := c.Write(p)
			written.Add(int64(n))
			if err != nil {
				return err
			}
		}
	})
	before, since := int64(-1), time.Now()
	eventually(t, "everything is full", func() bool {
		if now := written.Load(); now != before || st.credit.bytes.Load() > frameHeader {
			before, since = now, time.Now()
		}
		return time.Since(since) > 150*time.Millisecond
	})
	return writer
}

var networks = []string{"tcp", "unix"}

// A half-closed upload gets an answer that comes late; and the reverse.
func TestRelayHalfClose(t *testing.T) {
	for _, network := range networks {
		for _, fromApp := range []bool{true, false} {
			r := newRig(t, network)
			first, second := r.app, r.backend
			if !fromApp {
				first, second = second, first
			}
			question, answer := randomBytes(7, 3<<20), randomBytes(8, 2<<20)
			go func() {
				first.Write(question)
				first.CloseWrite()
			}()
			if got, err := io.ReadAll(second); err != nil || !bytes.Equal(got, question) {
				t.Fatalf("%s: %d bytes, %v", network, len(got), err)
			}
			go func() {
				second.Write(answer)
				second.CloseWrite()
			}()
			if got, err := io.ReadAll(first); err != nil || !bytes.Equal(got, answer) {
				t.Fatalf("%s: %d bytes, %v", network, len(got), err)
			}
			near, far := await(t, "end", r.nearEnd), await(t, "end", r.farEnd)
			up, down := int64(len(question)), int64(len(answer))
			if !fromApp {
				up, down = down, up
			}
			if near.err != nil || near.AToB != up || near.BToA != down {
				t.Errorf("near: %+v, want %d up and %d down", near, up, down)
			}
			if far.err != nil || far.AToB != down || far.BToA != up {
				t.Errorf("far: %+v, want %d down and %d up", far, down, up)
			}
		}
	}
}

// One side vanishes while the relay is idle, while the upload is blocked because the
// backend reads nothing, and while the download is blocked because the application
// reads nothing: the other side is reset soon.
func TestRelayVanish(t *testing.T) {
	for _, network := range networks {
		for _, who := range []string{"app", "backend"} {
			for _, blocked := range []string{"nothing", "upload", "download", "both"} {
				t.Run(fmt.Sprintf("%s/%s/%s blocked", network, who, blocked), func(t *testing.T) {
					r := newRig(t, network)
					leaves, stays := r.app, r.backend
					if who == "backend" {
						leaves, stays = stays, leaves
					}
					// Unread data makes a unix socket's end a reset.
					if network == "unix" && blocked == "nothing" {
						stays.Write([]byte("x"))
						eventually(t, "data to be read", func() bool { return r.near.credit.bytes.Load() != r.far.credit.bytes.Load() })
						testnet.AwaitReadable(t, leaves)
					}
					var up, down <-chan error
					if blocked == "upload" || blocked == "both" {
						up = stuff(t, r.app, r.near)
					}
					if blocked == "download" || blocked == "both" {
						down = stuff(t, r.backend, r.far)
					}
					if network == "unix" && (blocked == "upload" && who == "app" || blocked == "download" && who == "backend") {
						stays.Write([]byte("x")) // as above
						testnet.AwaitReadable(t, leaves)
					}
					start := time.Now()
					vanish(leaves)
					r.aborted(t)
					if d := time.Since(start); d > 10*time.Second {
						t.Errorf("the other side was released after %v", d)
					}
					// Whoever asks first is told of the reset; the other of an end.
					var told []error
					for _, w := range []<-chan error{up, down} {
						if w != nil {
							told = append(told, await(t, "end of a writer", w))
						}
					}
					told = append(told, await(t, "end of the rest", async(func() error { _, err := io.Copy(io.Discard, stays); return err })))
					if network != "unix" && !slices.ContainsFunc(told, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }) {
						t.Errorf("no reset at the other side: %v", told)
					}
				})
			}
		}
	}
}

// A session that is killed in mid-transfer resets both sides.
func TestRelaySessionKilled(t *testing.T) {
	for name, kill := range map[string]func(*rig, *testnet.Fault){
		"path cut":     func(_ *rig, f *testnet.Fault) { f.Cut() },
		"client gone":  func(r *rig, _ *testnet.Fault) { r.client.Close() },
		"server gone":  func(r *rig, _ *testnet.Fault) { r.server.Close() },
		"server stops": func(r *rig, _ *testnet.Fault) { r.server.CloseReason(CloseAway, "stopping") },
	} {
		for _, upload := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/upload %v", name, upload), func(t *testing.T) {
				client, server, path := newPairVia(t, nil)
				r := newRigOn(t, client, server, "tcp")
				from, to := conn(r.app), r.backend
				if !upload {
					from, to = to, from
				}
				writer := async(func() error {
					p := make([]byte, 64<<10)
					for {
						if _, err := from.Write(p); err != nil {
							return err
						}
					}
				})
				if _, err := io.CopyN(io.Discard, to, 4<<20); err != nil {
					t.Fatal(err)
				}
				kill(r, path)
				wantRST(t, "receiver", to)
				if err := await(t, "end of the sender", writer); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("the sender is told %v", err)
				}
				near, far := await(t, "end", r.nearEnd), await(t, "end", r.farEnd)
				wantLost(t, "near", near.err)
				wantLost(t, "far", far.err)
			})
		}
	}
}

// A refused stream is a reset at the application, with the reason for the log.
func TestRelayRefused(t *testing.T) {
	client, server := newPair(t, nil)
	app, appSide := tcpPair(t)
	near, err := client.Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	app.Write(make([]byte, 1<<10))
	end := async(func() error { _, err := tunnel.Relay(tunnel.NewSocket(appSide), near); return err })
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far.ReadTarget()
	far.Refuse(Unreachable, "no route")
	far.Close()
	wantRST(t, "application", app)
	var refused *RefusedError
	if err := await(t, "end of the relay", end); !errors.As(err, &refused) || refused.Code != Unreachable {
		t.Fatal(err)
	}
}

// Data that the backend sent before it was reset still reaches an application that
// reads.
func TestRelayDataBeforeReset(t *testing.T) {
	for range 20 {
		r := newRig(t, "tcp")
		want := randomBytes(9, 40<<10)
		if _, err := r.backend.Write(want); err != nil {
			t.Fatal(err)
		}
		// The far relay has taken it, so that the kernel cannot drop it.
		eventually(t, "the data is on its way", func() bool { return r.client.link.Received() > 40<<10 })
		vanish(r.backend)
		got := make([]byte, len(want))
		if n, err := io.ReadFull(r.app, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d: %v", n, len(want), err)
		}
		wantRST(t, "application", r.app)
		r.aborted(t)
	}
}

// Many relays at once, of all sizes, both ways.
func TestRelayMany(t *testing.T) {
	client, server := newPair(t, nil)
	const count = 200
	var all sync.WaitGroup
	for n := range count {
		r := newRigOn(t, client, server, networks[n%len(networks)])
		rnd := rand.New(rand.NewPCG(uint64(n), 2))
		up := randomBytes(uint64(2*n), rnd.IntN(1<<rnd.IntN(20)+1))
		down := randomBytes(uint64(2*n+1), rnd.IntN(1<<rnd.IntN(20)+1))
		send := func(c conn, b []byte) {
			for p := b; len(p) > 0; {
				k := min(len(p), 1+int(b[0])*257)
				c.Write(p[:k])
				p = p[k:]
			}
			c.CloseWrite()
		}
		check := func(c conn, want []byte) {
			h := sha256.New()
			k, err := io.Copy(h, c)
			if err != nil || k != int64(len(want)) || [32]byte(h.Sum(nil)) != sha256.Sum256(want) {
				t.Errorf("stream %d: %d bytes of %d, or others: %v", n, k, len(want), err)
			}
		}
		all.Go(func() { send(r.app, up) })
		all.Go(func() { send(r.backend, down) })
		all.Go(func() { check(r.app, down) })
		all.Go(func() {
			check(r.backend, up)
			if e := <-r.nearEnd; e.err != nil || e.AToB != int64(len(up)) || e.BToA != int64(len(down)) {
				t.Errorf("stream %d: %d up, %d down, %v", n, e.AToB, e.BToA, e.err)
			}
			if e := <-r.farEnd; e.err != nil {
				t.Errorf("stream %d: %v", n, e.err)
			}
		})
	}
	all.Wait()
}
