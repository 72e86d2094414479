package mux

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// gateway is a server that keeps sessions, with a misbehaving path before it.
type gateway struct {
	store   SessionStore
	path    *testnet.Fault
	started chan *Session // new sessions, for the test to take
	refused chan error    // and the errors of those that were none
}

// newGateway serves one owner per URL path.
func newGateway(t testing.TB, cfg *Config) *gateway {
	t.Helper()
	g := &gateway{started: make(chan *Session, 1100), refused: make(chan error, 1000)}
	var mu sync.Mutex
	var open sync.WaitGroup
	over := false
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, &ws.AcceptOptions{Conn: ws.Options{LatestPongOnly: true}})
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if over {
			conn.CloseNow()
			return
		}
		open.Go(func() {
			s, resumed, err := g.store.Serve(context.Background(), conn, r.URL.Path, nil, cfg)
			switch {
			case err != nil:
				select {
				case g.refused <- err:
				default:
				}
			case !resumed:
				g.started <- s
			}
		})
	}))
	t.Cleanup(func() {
		web.Close()
		mu.Lock()
		over = true
		mu.Unlock()
		open.Wait()
		for len(g.started) > 0 {
			(<-g.started).Close()
		}
	})
	g.path = testnet.NewFault(t, web.Listener.Addr().String())
	return g
}

// dial connects as an owner.
func (g *gateway) dial(t testing.TB, owner string) (*ws.Conn, error) {
	d := &dial.Options{Conn: ws.Options{LatestPongOnly: true}}
	return dial.Dial(t.Context(), "ws://"+g.path.Addr()+owner, d)
}

func (g *gateway) mustDial(t testing.TB, owner string) *ws.Conn {
	t.Helper()
	conn, err := g.dial(t, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// session starts a session and returns its two ends.
func (g *gateway) session(t testing.TB, owner string, cfg *Config) (client, server *Session) {
	t.Helper()
	client, err := Client(t.Context(), g.mustDial(t, owner), cfg)
	if err != nil {
		t.Fatal(err)
	}
	server = <-g.started
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// keep resumes a session whenever it has no connection, until the test or the session
// ends.
func (g *gateway) keep(t testing.TB, s *Session) (resumes *atomic.Int64) {
	resumes = new(atomic.Int64)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-s.Down():
			case <-s.Done():
				return
			case <-stop:
				return
			}
			if conn, err := g.dial(t, "/"); err == nil {
				if next, err := s.Resume(context.Background(), conn); err == nil && next == s {
					resumes.Add(1)
				} else if err == nil {
					next.Close()
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); s.Close(); wg.Wait() })
	return resumes
}

// exchange sends n random bytes each way on a stream, ends both directions and
// compares.
func exchange(t testing.TB, client, server *Session, seed uint64, n int) error {
	near, err := client.Open(t.Context(), anywhere)
	if err != nil {
		return err
	}
	defer near.Close()
	far, err := server.Accept()
	if err != nil {
		return err
	}
	defer far.Close()
	if _, err := far.ReadTarget(); err != nil {
		return err
	}
	if err := far.Connected(); err != nil {
		return err
	}
	want := randomBytes(seed, n)
	errs := make(chan error, 4)
	for _, st := range []*Stream{near, far} {
		go func() {
			_, err := st.Write(want)
			errs <- errors.Join(err, st.CloseWrite())
		}()
		go func() {
			h := sha256.New()
			got, err := io.Copy(h, st)
			if err == nil && (got != int64(n) || !bytes.Equal(h.Sum(nil), sum(want))) {
				err = fmt.Errorf("%d bytes of %d, or others", got, n)
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func sum(b []byte) []byte { h := sha256.Sum256(b); return h[:] }

// A session continues on its next connection, whichever end loses the last one, and
// however: streams are not affected.
func TestResume(t *testing.T) {
	for name, lose := range map[string]func(g *gateway, client, server *Session){
		"path cut":      func(g *gateway, _, _ *Session) { g.path.Cut() },
		"client's end":  func(_ *gateway, client, _ *Session) { connOf(client).CloseNow() },
		"server's end":  func(_ *gateway, _, server *Session) { connOf(server).CloseNow() },
		"close frame":   func(_ *gateway, _, server *Session) { connOf(server).Close(ws.StatusGoingAway, "") },
		"broken frames": func(_ *gateway, client, _ *Session) { connOf(client).NetConn().Write([]byte{0xff, 0xff}) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, nil)
			client, server := g.session(t, "/", nil)
			near, far := openPair(t, client, server)
			defer near.Close()
			defer far.Close()
			say := func(from, to *Stream, text string) {
				t.Helper()
				from.Write([]byte(text))
				got := make([]byte, len(text))
				if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
					t.Fatalf("%q, %v; want %q", got, err, text)
				}
			}
			say(near, far, "before")
			lose(g, client, server)
			await(t, "loss of the connection", client.Down())
			written := async(func() error { _, err := near.Write([]byte("during")); return err })
			next, err := client.Resume(t.Context(), g.mustDial(t, "/"))
			if err != nil || next != client {
				t.Fatalf("resumed as %p, %v", next, err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 6)
			if _, err := io.ReadFull(far, got); err != nil || string(got) != "during" {
				t.Fatalf("%q, %v", got, err)
			}
			say(far, near, "after")
			if n, _, _ := g.store.Detached(); n != 0 {
				t.Errorf("%d sessions wait", n)
			}
		})
	}
}

// Bytes pass both ways through a path that is cut again and again, at any byte, also
// in the middle of a resumption: all arrive, once, in order.
func TestResumeManyCuts(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, nil)
			client, server := g.session(t, "/", nil)
			resumes := g.keep(t, client)
			rnd := rand.New(rand.NewPCG(seed, 2))
			done := async(func() error { return exchange(t, client, server, seed, 8<<20) })
			var cuts int
			for {
				// Most often behind some data; often before the end of the handshake.
				after := rnd.Int64N(1 << 20)
				if rnd.IntN(3) == 0 {
					after = rnd.Int64N(1500)
				}
				g.path.CutAfter(after)
				total := g.path.Total()
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("%d cuts, %d resumptions", cuts, resumes.Load())
					if resumes.Load() < 5 {
						t.Errorf("only %d resumptions", resumes.Load())
					}
					return
				case <-waitUntil(t, func() bool { return g.path.Total() > total }):
					cuts++
				}
			}
		})
	}
}

// waitUntil closes its channel when ok holds, or the test has ended.
func waitUntil(t testing.TB, ok func() bool) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for end := time.Now().Add(watchdog); !ok() && t.Context().Err() == nil && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}()
	return c
}

// A new connection supersedes a living one: no byte is lost, none comes twice, and the
// session is never without a connection.
func TestMigrate(t *testing.T) {
	var downs atomic.Int64
	cfg := &Config{OnDown: func(error) { downs.Add(1) }}
	g := newGateway(t, cfg)
	client, server := g.session(t, "/", cfg)
	done := async(func() error { return exchange(t, client, server, 3, 16<<20) })
	moves, seen := 0, uint64(0)
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if moves < 3 || downs.Load() > 0 {
				t.Errorf("%d moves, %d times without a connection", moves, downs.Load())
			}
			return
		case <-waitUntil(t, func() bool { return server.link.Received() >= seen+1<<20 }):
		}
		seen = server.link.Received()
		if next, err := client.Resume(t.Context(), g.mustDial(t, "/")); err != nil || next != client {
			t.Fatalf("move %d: %v; client %v, server %v", moves, err, client.Err(), server.Err())
		}
		moves++
	}
}

// A session whose client does not come back in time ends with a reset of its
// streams on both ends.
func TestResumeTimeout(t *testing.T) {
	cfg := &Config{ResumeTimeout: 300 * time.Millisecond}
	g := newGateway(t, cfg)
	client, server := g.session(t, "/", nil) // the shorter time counts
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	lost := time.Now()
	g.path.Cut()
	for name, st := range map[string]*Stream{"client": near, "server": far} {
		_, err := st.Read(make([]byte, 1))
		wantLost(t, name, err)
	}
	if d := time.Since(lost); d < cfg.ResumeTimeout {
		t.Errorf("given up after %v", d)
	}
	await(t, "end of the client's session", client.Done())
	await(t, "end of the server's session", server.Done())
	if _, err := client.Resume(t.Context(), g.mustDial(t, "/")); !errors.Is(err, ErrNotResumable) {
		t.Error(err)
	}
}

// If the server does not know the session, the same connection begins a new one, and
// the old one's streams are reset.
func TestResumeUnknown(t *testing.T) {
	g, other := newGateway(t, nil), newGateway(t, nil)
	client, server := g.session(t, "/", nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer func() { server.Close(); far.Close() }()
	g.path.Cut()
	next, err := client.Resume(t.Context(), other.mustDial(t, "/"))
	if err != nil || next == client {
		t.Fatalf("%p, %v", next, err)
	}
	defer next.Close()
	_, err = near.Read(make([]byte, 1))
	wantLost(t, "the old stream", err)
	peer := <-other.started
	defer peer.Close()
	if err := exchange(t, next, peer, 1, 1<<20); err != nil {
		t.Fatal(err)
	}
	if !next.Resumable() {
		t.Error("the new session cannot be resumed")
	}
}

// A session cannot be resumed without its key, by another user, or with an attempt
// that was made before, and such requests do not affect it.
func TestResumeRefused(t *testing.T) {
	g := newGateway(t, nil)
	client, server := g.session(t, "/alice", nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	key := *client.key
	wrong := key
	wrong.secret[31] ^= 1
	ask := func(owner string, k *sessionKey, attempt uint32, received uint64) (hello, error) {
		r := &resumption{id: k.id, attempt: attempt, received: received}
		r.proof = k.sign(r)
		conn := g.mustDial(t, owner)
		defer conn.CloseNow()
		return askHello(conn, hello{version: Version, maxStreams: 1, credit: 1 << 16, hold: 1000, resume: r})
	}
	for name, try := range map[string]func() (hello, error){
		"without the secret":   func() (hello, error) { return ask("/alice", &wrong, 100, 0) },
		"without any secret":   func() (hello, error) { return ask("/alice", &sessionKey{id: key.id}, 100, 0) },
		"another user":         func() (hello, error) { return ask("/mallory", &key, 100, 0) },
		"another proof's body": func() (hello, error) { return replay(t, g, &key) },
		"attempt 0":            func() (hello, error) { return ask("/alice", &key, 0, 0) },
		"bytes never sent":     func() (hello, error) { return ask("/alice", &key, 50, 1<<40) },
	} {
		_, err := try()
		var refused *ClosedError
		if !errors.As(err, &refused) || refused.Code != CloseUnknown {
			t.Errorf("%s: %v", name, err)
		}
		if err := await(t, "the server's error", g.refused); !errors.Is(err, ErrRefusedResumption) {
			t.Errorf("%s: the server says %v", name, err)
		}
		if closed(client.Down()) || closed(server.Down()) || client.Err() != nil {
			t.Fatalf("%s: the session is harmed", name)
		}
	}
	// An attempt counts once.
	client.attempt = 60
	if _, err := client.Resume(t.Context(), g.mustDial(t, "/alice")); err != nil {
		t.Fatal(err)
	}
	for _, attempt := range []uint32{61, 60, 1} {
		if _, err := ask("/alice", &key, attempt, 0); err == nil {
			t.Errorf("attempt %d counted again", attempt)
		}
	}
	far.Write([]byte("still here"))
	got := make([]byte, 10)
	if _, err := io.ReadFull(near, got); err != nil || string(got) != "still here" {
		t.Fatalf("%q, %v", got, err)
	}
}

// replay sends a proof with other offsets than it was made for.
func replay(t *testing.T, g *gateway, key *sessionKey) (hello, error) {
	r := &resumption{id: key.id, attempt: 70}
	r.proof = key.sign(r)
	r.received++
	conn := g.mustDial(t, "/alice")
	defer conn.CloseNow()
	return askHello(conn, hello{version: Version, maxStreams: 1, credit: 1 << 16, hold: 1000, resume: r})
}

// Detached sessions hold no more memory than allowed: those detached for longest end
// first.
func TestDetachedMemory(t *testing.T) {
	const chunkSize = 64 << 10 // of the link's send buffer
	g := newGateway(t, nil)
	g.store.MaxDetached = 4*(detachedCost+detachedStreamCost+chunkSize) + detachedCost
	var clients, servers []*Session
	for range 8 {
		c, s := g.session(t, "/", nil)
		_, far := openPair(t, c, s)
		g.path.Stall(true)
		if _, err := far.Write(make([]byte, chunkSize/2)); err != nil { // stays in the send buffer
			t.Fatal(err)
		}
		clients, servers = append(clients, c), append(servers, s)
		connOf(s).CloseNow()
		await(t, "loss", s.Down())
		g.path.Stall(false)
		if _, bytes, _ := g.store.Detached(); bytes > g.store.MaxDetached {
			t.Fatalf("%d bytes wait", bytes)
		}
	}
	for _, s := range servers[:4] {
		await(t, "end of an old session", s.Done())
	}
	for i, s := range servers[4:] {
		if closed(s.Done()) {
			t.Errorf("session %d has ended: %v", 4+i, s.Err())
		}
	}
	if n, _, dropped := g.store.Detached(); n != 4 || dropped != 4 {
		t.Errorf("%d wait, %d were dropped", n, dropped)
	}
	if next, err := clients[7].Resume(t.Context(), g.mustDial(t, "/")); err != nil || next != clients[7] {
		t.Errorf("the last cannot be resumed: %v", err)
	}
	for _, s := range servers {
		s.Close()
	}
	if n, bytes, _ := g.store.Detached(); n != 0 || bytes != 0 || len(g.store.sessions) != 0 {
		t.Errorf("%d sessions with %d bytes are left", n, bytes)
	}
}

// The peer's close message ends the session for good, although it comes while a write
// fails here.
func TestCloseMessageIsNoLoss(t *testing.T) {
	for range 20 {
		g := newGateway(t, nil)
		client, server := g.session(t, "/", nil)
		near, far := openPair(t, client, server)
		go io.Copy(io.Discard, near)
		writer := async(func() error { _, err := far.Write(make([]byte, 64<<20)); return err })
		client.CloseReason(CloseDone, "")
		await(t, "end of the server's session", server.Done())
		var goodbye *ClosedError
		if err := server.Err(); !errors.As(err, &goodbye) {
			t.Fatal(err)
		}
		<-writer
		near.Close()
		far.Close()
	}
}

// A server that answers a resumption with impossible offsets ends the session, and
// nothing wrong is delivered.
func TestResumedImpossibleOffsets(t *testing.T) {
	for name, r := range map[string]resumed{
		"received too much": {received: 1 << 40},
		"received less":     {received: 0},
		"starts too late":   {received: 1 << 40, start: 1 << 40},
	} {
		g := newGateway(t, nil)
		client, server := g.session(t, "/", nil)
		near, far := openPair(t, client, server)
		near.Write(make([]byte, 1000))
		io.ReadFull(far, make([]byte, 1000))
		eventually(t, "everything is acknowledged", func() bool { return client.Stats().Unacknowledged == 0 })
		cc, sc := newConns(t)
		go func() {
			readFirst(sc)
			sc.WriteMessage(ws.OpBinary, appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1, resumed: &r}))
		}()
		if _, err := client.Resume(t.Context(), cc); !errors.Is(err, ErrNotResumable) || !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		near.Close()
		server.Close()
		far.Close()
	}
}

// RequestMigration reaches the client once.
func TestRequestMigration(t *testing.T) {
	client, server := newPair(t, nil)
	server.RequestMigration(3 * time.Second)
	if d := await(t, "request", client.Migrations()); d != 3*time.Second {
		t.Error(d)
	}
}
