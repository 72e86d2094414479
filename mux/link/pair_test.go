package link

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/internal/testnet"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newPair returns the two ends of a link over a WebSocket on loopback TCP, with
// a misbehaving path between them. They end with the test. Zero times in cfg
// become an hour.
func newPair(t testing.TB, cfg Config) (a, b *Link, path *testnet.Fault) {
	t.Helper()
	if cfg.SendBuffer == 0 {
		cfg.SendBuffer = 1 << 20
	}
	if cfg.PingInterval == 0 {
		cfg.PingInterval = time.Hour
	}
	if cfg.Silence == 0 {
		cfg.Silence = time.Hour
	}
	dialed, accepted, path := newConns(t)
	a, b = New(dialed, cfg), New(accepted, cfg)
	t.Cleanup(func() {
		for _, l := range []*Link{a, b} {
			l.Close()
			l.Wait()
		}
	})
	return a, b, path
}

// newConns returns the two ends of a WebSocket on loopback TCP with a misbehaving
// path between them. The caller closes them.
func newConns(t testing.TB) (dialed, accepted *ws.Conn, path *testnet.Fault) {
	t.Helper()
	opts := ws.Options{LatestPongOnly: true}
	accepting := make(chan *ws.Conn, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, &ws.AcceptOptions{Conn: opts})
		if err != nil {
			t.Error(err)
		}
		accepting <- conn
	}))
	t.Cleanup(web.Close)
	path = testnet.NewFault(t, web.Listener.Addr().String())
	d := &dial.Options{Conn: opts}
	conn, err := dial.Dial(t.Context(), "ws://"+path.Addr(), d)
	if err != nil {
		t.Fatal(err)
	}
	return conn, <-accepting, path
}

// readAll reads until the end, and returns the channel of the error.
func readAll(l *Link) <-chan error {
	end := make(chan error, 1)
	go func() {
		b := make([]byte, 64<<10)
		for {
			if _, err := l.Read(b); err != nil {
				end <- err
				return
			}
		}
	}()
	return end
}

// watchdog is how long anything that must happen may take in a test.
const watchdog = 30 * time.Second

// eventually waits until ok reports true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(watchdog); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", watchdog, what)
		}
	}
}
