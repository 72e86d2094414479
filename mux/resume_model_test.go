package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/mux/link"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// The model of a resumable link is two counters for each direction: what one
// side has written, and what the other has read. Whatever happens to the
// connections between them, the bytes read are the first of those written, and once
// a connection stays, they are all of them.

// The two directions, and the sides that write into them.
const (
	up   = 0 // from the client
	down = 1
)

// world is a client's session and a server's, without yamux on top, and all
// connections that there have been between them. One goroutine drives it.
type world struct {
	web    *modelWeb
	path   string
	ln     net.Listener
	store  SessionStore
	sides  [2]*Session // client, server
	queued [2]uint64   // bytes for the writers to write
	wrote  [2]atomic.Uint64
	read   [2]atomic.Uint64 // of these bytes
	write  [2]chan int
	wires  []*wire // the last one is in use
	first  chan *ws.Conn

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	err  error // the first violation
	over bool
}

// modelWeb accepts the connections of many worlds, one for each path.
type modelWeb struct {
	server *httptest.Server
	worlds sync.Map
	next   atomic.Int64
}

func newModelWeb(t testing.TB) *modelWeb {
	m := &modelWeb{}
	m.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(rw, r, &ws.AcceptOptions{Conn: ws.Options{LatestPongOnly: true}})
		if err != nil {
			return
		}
		if w, ok := m.worlds.Load(r.URL.Path); ok {
			w.(*world).accept(conn)
		} else {
			conn.CloseNow()
		}
	}))
	t.Cleanup(m.server.Close)
	return m
}

var modelConfig = Config{HandshakeTimeout: watchdog, ResumeTimeout: time.Hour}

// newWorld connects the two sides by a wire with a plan.
func newWorld(web *modelWeb, p plan) (*world, error) {
	w := &world{web: web, path: fmt.Sprint("/", web.next.Add(1)), first: make(chan *ws.Conn, 1)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	var err error
	if w.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	web.worlds.Store(w.path, w)
	client, err := w.dial(p)
	if err != nil {
		return nil, err
	}
	key := newSessionKey()
	server := bareSession(<-w.first, key, modelSendBuffer)
	w.mu.Lock()
	w.sides = [2]*Session{bareSession(client, key, modelSendBuffer), server}
	w.mu.Unlock()
	server.store, server.owner = &w.store, "owner"
	w.store.sessions = map[sessionID]*Session{key.id: server}
	for side := range w.sides {
		w.write[side] = make(chan int, 1000)
		w.wg.Go(func() { w.writer(side) })
		w.wg.Go(func() { w.reader(side) })
	}
	return w, nil
}

// modelSendBuffer is small, so that a writer often waits for acknowledgements.
const modelSendBuffer = 64 << 10

// modelWrite bounds what a writer writes at once.
const modelWrite = 3000

func bareSession(conn link.Conn, key *sessionKey, sendBuffer int) *Session {
	cfg := modelConfig
	s := newSession(cfg.withDefaults(), hello{})
	s.key = key
	s.link = link.New(conn, link.Config{
		SendBuffer: sendBuffer, PingInterval: time.Hour, Silence: time.Hour, Hold: time.Hour, Resumable: true,
		OnDown: s.onDown, OnUp: s.onUp,
	})
	s.adapter = &adapter{link: s.link, bulk: make(chan struct{}, 1)}
	return s
}

// accept serves the server's end of a connection.
func (w *world) accept(conn *ws.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		conn.CloseNow()
		return
	}
	if w.sides[1] == nil {
		w.first <- conn
		return
	}
	w.wg.Go(func() {
		_, _, err := w.store.Serve(w.ctx, conn, "owner", func() error {
			w.fail(errors.New("the server does not know the session"))
			return ErrNotResumable
		}, &modelConfig)
		if errors.Is(err, ErrProtocol) {
			w.fail(err)
		}
	})
}

func (w *world) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
}

func (w *world) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// modelByte is byte number n of a direction.
func modelByte(dir int, n uint64) byte {
	return byte((n + 1 + uint64(dir)<<40) * 0x9e3779b97f4a7c15 >> 56)
}

// say queues n more bytes for a direction's writer.
func (w *world) say(dir, n int) {
	w.queued[dir] += uint64(n)
	w.write[dir] <- n
}

func (w *world) writer(side int) {
	for n := range w.write[side] {
		b := make([]byte, n)
		from := w.wrote[side].Load()
		for i := range b {
			b[i] = modelByte(side, from+uint64(i))
		}
		w.wrote[side].Add(uint64(n))
		l := w.sides[side].link
		if l.WriteHeader(b[:n/3], true) != nil || l.Write(b[n/3:], nil) != nil {
			return
		}
	}
}

// reader reads what the other side wrote, and compares.
func (w *world) reader(side int) {
	dir := 1 - side
	for size := 1; ; size = size*5%4093 + 1 {
		b := make([]byte, size)
		n, err := w.sides[side].link.Read(b)
		at := w.read[dir].Load()
		for i := range b[:n] {
			if b[i] != modelByte(dir, at+uint64(i)) {
				w.fail(fmt.Errorf("direction %d: byte %d is a wrong one", dir, at+uint64(i)))
				return
			}
		}
		if at += uint64(n); at > w.wrote[dir].Load() {
			w.fail(fmt.Errorf("direction %d: %d bytes read, %d written", dir, at, w.wrote[dir].Load()))
		}
		w.read[dir].Store(at)
		if err != nil {
			return
		}
	}
}

// check compares the offsets of both sides.
func (w *world) check() error {
	if err := w.failure(); err != nil {
		return err
	}
	for dir, from := range w.sides {
		// What is acknowledged only grows: the earlier state of the sender, the
		// receiver's, and the later state of the sender are in order.
		to := w.sides[1-dir]
		before, received, after := from.link.Stats(), to.link.Received(), from.link.Stats()
		tail := after.Acknowledged + uint64(after.Unacknowledged)
		sent := tail - uint64(after.Queued)
		ordered := after.Acknowledged <= sent && sent <= after.Sent && after.Sent <= tail
		if !ordered || before.Acknowledged > received || received > after.Sent || after.Unacknowledged > modelSendBuffer+modelWrite {
			return fmt.Errorf("direction %d: %d received, %+v", dir, received, after)
		}
		if read, wrote := w.read[dir].Load(), w.wrote[dir].Load(); read > to.link.Received() || tail > wrote {
			return fmt.Errorf("direction %d: written %d, queued %d, received %d, read %d", dir, wrote, tail, received, read)
		}
		if err := from.link.Err(); err != nil {
			return fmt.Errorf("side %d has given up: %w", dir, err)
		}
	}
	return nil
}

// delivered reports whether everything has arrived, and been acknowledged.
func (w *world) delivered() bool {
	for dir, s := range w.sides {
		st := s.link.Stats()
		held := st.Unacknowledged + st.SendBuffer
		if w.read[dir].Load() != w.queued[dir] || held != 0 {
			return false
		}
	}
	return true
}

// settle waits until everything has arrived, or the last wire lets no more
// through, and checks meanwhile.
func (w *world) settle(within time.Duration) error {
	last := w.wires[len(w.wires)-1]
	for end := time.Now().Add(within); ; time.Sleep(200 * time.Microsecond) {
		if err := w.check(); err != nil {
			return err
		}
		if w.delivered() || last.blocked() {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v: read %d of %d and %d of %d", within, w.read[0].Load(), w.queued[0], w.read[1].Load(), w.queued[1])
		}
	}
}

// The lengths of the two messages of a resumption as frames.
var (
	askFrame = 2 + 4 + len(appendHello(nil, func() hello {
		c := modelConfig.withDefaults()
		h := c.hello()
		h.resume, h.client = &resumption{}, true
		return h
	}()))
	answerFrame = 2 + len(appendHello(nil, func() hello { c := modelConfig.withDefaults(); h := c.hello(); h.resumed = &resumed{}; return h }()))
)

// resume puts the session on another wire. Only the wire's plan may make it fail; if
// the plan holds an essential message back, the client gives up.
func (w *world) resume(p plan) error {
	conn, err := w.dial(p)
	if err != nil {
		return err
	}
	now := w.wires[len(w.wires)-1]
	ctx, cancel := context.WithTimeout(w.ctx, watchdog)
	defer cancel()
	done := async(func() error {
		next, err := w.sides[0].Resume(ctx, conn)
		if err == nil && next != w.sides[0] {
			w.fail(errors.New("resumed as another session"))
		}
		return err
	})
	if p[up].stop >= 0 && p[up].stop < askFrame || p[down].stop >= 0 && p[down].stop < answerFrame {
		select {
		case err = <-done:
		case <-now.stopped:
			cancel()
			err = <-done
		}
	} else {
		err = <-done
	}
	if err == nil {
		for _, old := range w.wires[:len(w.wires)-1] {
			old.detached.Store(true)
		}
	} else if p == clean || ctx.Err() != nil && w.ctx.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	} else {
		w.setAside()
	}
	return w.check()
}

// setAside makes the last wire but one the one in use again.
func (w *world) setAside() {
	last := len(w.wires) - 1
	w.wires[last], w.wires[last-1] = w.wires[last-1], w.wires[last]
}

// replay repeats an earlier attempt, which must be refused.
func (w *world) replay(attempt uint32) error {
	client := w.sides[0]
	if client.attempt == 0 || w.store.attempts(client.key.id) < client.attempt {
		return nil // the last has not arrived: the server would not know
	}
	conn, err := w.dial(clean)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	w.setAside()
	ask := &resumption{id: client.key.id, attempt: attempt % (client.attempt + 1), received: client.link.Received()}
	ask.proof = client.key.sign(ask)
	own := client.cfg.hello()
	own.resume = ask
	_, err = askHello(conn, own)
	var refused *ClosedError
	if !errors.As(err, &refused) || refused.Code != CloseUnknown {
		return fmt.Errorf("attempt %d of %d again: %v", ask.attempt, client.attempt, err)
	}
	return w.check()
}

// attempts is the number of the last attempt to resume a session.
func (r *SessionStore) attempts(id sessionID) uint32 {
	r.mu.Lock()
	s := r.sessions[id]
	r.mu.Unlock()
	s.resuming <- struct{}{}
	defer func() { <-s.resuming }()
	return s.attempt
}

// heal makes a last, good connection, releases everything that was held back, and
// waits until both sides have all bytes.
func (w *world) heal() error {
	if err := w.resume(clean); err != nil {
		return err
	}
	w.release()
	if err := w.settle(watchdog); err != nil {
		return err
	}
	if !w.delivered() {
		return errors.New("the last wire is blocked")
	}
	for end := time.Now().Add(watchdog); ; time.Sleep(200 * time.Microsecond) { // the server notes it a moment later
		n, bytes, _ := w.store.Detached()
		if n == 0 && bytes == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d sessions with %d bytes wait", n, bytes)
		}
	}
}

func (w *world) release() {
	for _, wire := range w.wires {
		wire.release()
	}
}

// end ends everything, whatever state it is in.
func (w *world) end() {
	w.cancel()
	w.ln.Close()
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.web.worlds.Delete(w.path)
	for _, wire := range w.wires {
		wire.cut(true)
	}
	for side, s := range w.sides {
		close(w.write[side])
		s.link.Close()
		s.link.Wait()
	}
	w.wg.Wait()
	for _, wire := range w.wires {
		wire.wg.Wait()
	}
}

// plan is the fate of a wire: for each direction, after how many bytes it is cut, or
// stops passing bytes on. Negative: never.
type plan [2]struct {
	cut, stop int
	hard      bool // cut with resets
}

var clean = plan{{cut: -1, stop: -1}, {cut: -1, stop: -1}}

func cutPlan(dir, at int, hard bool) plan {
	p := clean
	p[dir].cut, p[dir].hard = at, hard
	return p
}

func stopPlan(dir, at int) plan {
	p := clean
	p[dir].stop = at
	return p
}

// wire is a relayed TCP connection. Its plan counts the bytes behind the HTTP
// upgrade.
type wire struct {
	ends     [2]*net.TCPConn // to the client and to the server
	stopped  chan struct{}   // closed when something has been stopped
	detached atomic.Bool     // both sides have detached it: it repeats everything
	stutter  atomic.Bool     // it repeats every acknowledgement
	wg       sync.WaitGroup

	mu     sync.Mutex
	change sync.Cond
	plan   plan
	passed [2]int
	dead   bool
}

// dial connects the client over a wire with a plan.
func (w *world) dial(p plan) (*ws.Conn, error) {
	x := &wire{stopped: make(chan struct{}), plan: p}
	x.change.L = &x.mu
	w.wires = append(w.wires, x)
	relayed := async(func() error {
		front, err := w.ln.Accept()
		if err != nil {
			return err
		}
		back, err := net.Dial("tcp", w.web.server.Listener.Addr().String())
		if err != nil {
			front.Close()
			return err
		}
		x.ends = [2]*net.TCPConn{front.(*net.TCPConn), back.(*net.TCPConn)}
		x.wg.Go(func() { x.pump(up) })
		x.wg.Go(func() { x.pump(down) })
		return nil
	})
	d := &dial.Options{Conn: ws.Options{LatestPongOnly: true}}
	conn, err := dial.Dial(w.ctx, "ws://"+w.ln.Addr().String()+w.path, d)
	return conn, errors.Join(err, <-relayed)
}

// pump relays a direction message by message.
func (x *wire) pump(dir int) {
	src, dst := x.ends[dir], x.ends[1-dir]
	var b []byte
	upgraded := false
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		b = append(b, buf[:n]...)
		if !upgraded {
			if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
				upgraded = true
				dst.Write(b[:i+4])
				b = b[i+4:]
			}
		}
		for n := frameLength(b); upgraded && n > 0; n = frameLength(b) {
			x.pass(dir, b[:n])
			if x.detached.Load() || x.stutter.Load() && isAck(b[:n]) {
				x.pass(dir, b[:n])
			}
			b = b[n:]
		}
		if err != nil {
			x.pass(dir, b)
			x.cut(err != io.EOF)
			return
		}
	}
}

// frameLength is the length of the frame at the front of b, 0 if that is not
// all there.
func frameLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	head, n := 2, int(b[1]&0x7f)
	switch n {
	case 126:
		head += 2
	case 127:
		head += 8
	}
	if len(b) < head {
		return 0
	}
	if head > 2 {
		n = 0
		for _, v := range b[2:head] {
			n = n<<8 | int(v)
		}
	}
	if b[1]&0x80 != 0 {
		head += 4
	}
	if len(b) < head+n {
		return 0
	}
	return head + n
}

// isAck reports whether a frame is an acknowledgement alone.
func isAck(frame []byte) bool {
	if frame[0] != 0x82 || frame[1]&0x7f != 1+link.AckSize {
		return false
	}
	if frame[1]&0x80 != 0 {
		return link.MessageType(frame[6]^frame[2]) == link.MessageAck
	}
	return link.MessageType(frame[2]) == link.MessageAck
}

// pass lets bytes through, as far as the plan allows.
func (x *wire) pass(dir int, b []byte) {
	for len(b) > 0 {
		x.mu.Lock()
		p := &x.plan[dir]
		for !x.dead && p.stop >= 0 && x.passed[dir] >= p.stop {
			if !closed(x.stopped) {
				close(x.stopped)
			}
			x.change.Wait()
		}
		if x.dead {
			x.mu.Unlock()
			return
		}
		n := len(b)
		if p.stop >= 0 {
			n = min(n, p.stop-x.passed[dir])
		}
		ends := p.cut >= 0 && x.passed[dir]+n >= p.cut
		if ends {
			n = max(p.cut-x.passed[dir], 0)
		}
		x.passed[dir] += n
		hard := p.hard
		x.mu.Unlock()
		if _, err := x.ends[1-dir].Write(b[:n]); err != nil || ends {
			x.cut(hard)
			return
		}
		b = b[n:]
	}
}

func (x *wire) cut(hard bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.dead {
		return
	}
	x.dead = true
	x.change.Broadcast()
	for _, c := range x.ends {
		if hard {
			c.SetLinger(0)
		}
		c.Close()
	}
}

// arm changes the plan for a direction: n bytes from now on.
func (x *wire) arm(dir, n int, hard, stop bool) {
	x.mu.Lock()
	p := &x.plan[dir]
	if stop {
		p.stop = x.passed[dir] + n
	} else {
		p.cut, p.hard = x.passed[dir]+n, hard
	}
	x.mu.Unlock()
	if n == 0 && !stop {
		x.cut(hard)
	}
}

// release passes on what was stopped.
func (x *wire) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.plan[up].stop, x.plan[down].stop = -1, -1
	x.change.Broadcast()
}

// blocked reports whether the wire is cut, or stopped and something waits.
func (x *wire) blocked() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dead || closed(x.stopped)
}

// converse writes some messages to and fro, over one connection after another:
// the first as planned for the world, the second as planned here.
func (w *world) converse(second plan) error {
	next := second
	for _, m := range []struct{ dir, n int }{{up, 1}, {down, 2}, {up, 20}, {down, 130}, {up, 7}, {up, 126}, {down, 3}} {
		w.say(m.dir, m.n)
		for w.read[m.dir].Load() != w.queued[m.dir] {
			if !w.wires[len(w.wires)-1].blocked() {
				if err := w.check(); err != nil {
					return err
				}
				time.Sleep(50 * time.Microsecond)
				continue
			}
			if err := w.resume(next); err != nil {
				return err
			}
			next = clean
		}
	}
	return w.heal()
}

// talk is a conversation in a world of its own. It returns how many bytes passed on
// the first two wires.
func talk(web *modelWeb, first, second plan) (passed [2][2]int, err error) {
	w, err := newWorld(web, first)
	if err != nil {
		return passed, err
	}
	defer w.end()
	err = w.converse(second)
	for i := range passed {
		x := w.wires[min(i, len(w.wires)-1)]
		x.mu.Lock()
		passed[i] = x.passed
		x.mu.Unlock()
	}
	return passed, err
}

// A connection is cut after each of its bytes, in each direction, and so is the one
// that takes over. They are also stopped there instead, and what they held back
// comes when they have been superseded.
func TestResumeAtEveryByte(t *testing.T) {
	web := newModelWeb(t)
	passed, err := talk(web, clean, clean)
	if err != nil {
		t.Fatal(err)
	}
	type run struct{ first, second plan }
	runs := make(chan run, 100)
	var all sync.WaitGroup
	for range 24 {
		all.Go(func() {
			for r := range runs {
				if _, err := talk(web, r.first, r.second); err != nil {
					t.Errorf("plans %+v and %+v: %v", r.first, r.second, err)
				}
			}
		})
	}
	for dir := range passed[0] {
		for at := range passed[0][dir] + 20 {
			runs <- run{cutPlan(dir, at, at%2 == 0), clean}
			if at%3 == 0 {
				runs <- run{stopPlan(dir, at), clean}
			}
		}
	}
	// The bytes of a resumption: its two messages, and what is sent again.
	for dir, n := range []int{askFrame + 100, answerFrame + 100} {
		for at := range n {
			first := cutPlan(at%2, (at*37)%max(passed[0][at%2], 1), at%3 == 0)
			runs <- run{first, cutPlan(dir, at, at%2 == 0)}
			if at%3 == 0 {
				first = stopPlan(at%2, (at*53)%max(passed[0][at%2], 1))
				runs <- run{first, stopPlan(dir, at)}
			}
		}
	}
	close(runs)
	all.Wait()
}

// step does one operation of a schedule.
func (w *world) step(op, a, b byte) error {
	dir, hard := int(a&1), a&2 != 0
	last := w.wires[len(w.wires)-1]
	switch op % 12 {
	case 0, 1:
		w.say(int(op%2), 1+(int(a)<<8|int(b))%modelWrite)
	case 2:
		w.say(dir, 1+int(b))
	case 3:
		last.arm(dir, int(b)*(1+int(a>>4)), hard, false)
	case 4:
		last.arm(dir, int(b)*(1+int(a>>4)), hard, true)
	case 5:
		w.release()
	case 6:
		return w.resume(clean)
	case 7:
		return w.resume(cutPlan(dir, int(b)*(1+int(a>>4)), hard))
	case 8:
		return w.resume(stopPlan(dir, int(b)*(1+int(a>>4))))
	case 9:
		return w.replay(uint32(b))
	case 10:
		if err := w.settle(time.Duration(b) * 20 * time.Microsecond); err != nil && w.check() != nil {
			return err
		}
	case 11:
		last.stutter.Store(true)
	}
	return w.check()
}

// play plays a schedule of three bytes for each step.
func play(web *modelWeb, schedule []byte) error {
	w, err := newWorld(web, clean)
	if err != nil {
		return err
	}
	defer w.end()
	for i := 0; i+3 <= min(len(schedule), 3*60); i += 3 {
		if err := w.step(schedule[i], schedule[i+1], schedule[i+2]); err != nil {
			return fmt.Errorf("step %d, % x: %w", i/3, schedule[i:i+3], err)
		}
	}
	if err := w.heal(); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	return nil
}

// schedules are situations that random schedules rarely reach.
var schedules = map[string][]byte{
	"cut during a resumption":  {0, 3, 0, 3, 0, 40, 6, 0, 0, 1, 9, 9, 7, 1, 20, 6, 0, 0},
	"attempts in wrong order":  {1, 9, 0, 8, 0, 20, 1, 9, 0, 8, 1, 30, 6, 0, 0, 5, 0, 0, 9, 0, 0, 6, 0, 0, 9, 0, 1},
	"old bytes after a move":   {0, 9, 0, 4, 0, 100, 0, 9, 0, 6, 0, 0, 11, 0, 0, 5, 0, 0, 10, 0, 99, 8, 1, 10, 8, 0, 50, 7, 1, 80},
	"an attempt that is late":  {1, 3, 0, 10, 0, 255, 8, 0, 10, 1, 3, 0, 10, 0, 255, 0, 0, 9, 10, 0, 255, 10, 0, 255, 5, 0, 0, 10, 0, 255, 1, 1, 1},
	"an answer that is late":   {1, 3, 0, 8, 1, 10, 1, 3, 0, 0, 3, 0, 5, 0, 0, 10, 0, 255, 6, 0, 0},
	"moves under a full ring":  {1, 11, 183, 1, 11, 183, 1, 11, 183, 1, 11, 183, 1, 11, 183, 1, 11, 183, 4, 17, 200, 1, 11, 183, 1, 11, 183, 6, 0, 0, 1, 11, 183, 6, 0, 0, 1, 11, 183},
	"acknowledgements doubled": {11, 0, 0, 0, 3, 0, 10, 0, 255, 1, 3, 0, 10, 0, 255, 0, 3, 0, 6, 0, 0, 11, 0, 0, 1, 3, 0, 10, 0, 255},
}

// Random schedules of writes, cuts, moves, replays and delays.
func TestResumeModel(t *testing.T) {
	web := newModelWeb(t)
	for name, schedule := range schedules {
		if err := play(web, schedule); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var all sync.WaitGroup
	seeds := make(chan uint64)
	for range 16 {
		all.Go(func() {
			for seed := range seeds {
				rnd := rand.New(rand.NewPCG(seed, 3))
				schedule := make([]byte, 3*(5+rnd.IntN(35)))
				for i := range schedule {
					schedule[i] = byte(rnd.Uint32())
				}
				if err := play(web, schedule); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	for seed := range uint64(200) {
		seeds <- seed
	}
	close(seeds)
	all.Wait()
}

// FuzzResume plays schedules of the fuzzer.
func FuzzResume(f *testing.F) {
	web := newModelWeb(f)
	for _, schedule := range schedules {
		f.Add(schedule)
	}
	f.Fuzz(func(t *testing.T, schedule []byte) {
		if err := play(web, schedule); err != nil {
			t.Fatal(err)
		}
	})
}
