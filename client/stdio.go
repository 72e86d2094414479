package client

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// Stdio connects once and carries one stream between a target and a pair of
// pipes, such as standard input and output: the way of ssh's ProxyCommand. It
// returns nil when both directions have ended well or ctx is done, and closes
// out before it returns. A Read of in that blocks may outlive it, and after
// the end of ctx a Write of out may, too.
func (c *Client) Stdio(ctx context.Context, target mux.Target, in io.Reader, out io.WriteCloser) error {
	pipe := newPipe(out)
	defer pipe.Abort()
	start := time.Now()
	session, server, err := c.connect(ctx, c.order(""))
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer c.keep(session, server, start)()
	st, err := session.Open(ctx, target)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	go pipe.read(in) // cannot be interrupted in a Read; ends at the next one
	ended := make(chan error, 1)
	go func() {
		_, err := tunnel.Relay(pipe, st)
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		pipe.Abort()
		st.Abort()
		select {
		case <-ended:
		case <-time.After(time.Second): // a Write that nobody reads
		}
		return nil
	}
}

// keep keeps a session, which took from start on to make, on a connection
// until the function that it gives is called, which closes the session.
func (c *Client) keep(session *mux.Session, server string, start time.Time) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	k := newKeeper(ctx, c)
	k.only, k.started = true, start
	k.change(outcome{session: session, server: server})
	var kept sync.WaitGroup
	kept.Go(func() { c.watchNetwork(ctx) })
	kept.Go(func() {
		k.run()
		k.stop()
	})
	return func() {
		cancel()
		kept.Wait()
		c.retired.Wait()
	}
}

// pipe makes an Endpoint of a reader and a writer that know no deadlines.
type pipe struct {
	out     io.WriteCloser
	outOnce sync.Once
	outErr  error
	chunks  chan []byte // read from in; closed at its end
	unread  []byte
	readErr error // after chunks is closed
	done    chan struct{}
	once    sync.Once
}

func newPipe(out io.WriteCloser) *pipe {
	return &pipe{out: out, chunks: make(chan []byte), done: make(chan struct{})}
}

// read passes on what it reads. It reads into one buffer while the other is
// being used; each is passed on only when the one before it is used up.
func (p *pipe) read(in io.Reader) {
	defer close(p.chunks)
	var bufs [2][32 << 10]byte
	for i := 0; ; i ^= 1 {
		n, err := in.Read(bufs[i][:])
		if n > 0 {
			select {
			case p.chunks <- bufs[i][:n]:
			case <-p.done:
				return
			}
		}
		if err != nil {
			p.readErr = err
			return
		}
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.unread) == 0 {
		select {
		case chunk, ok := <-p.chunks:
			if !ok {
				return 0, p.readErr
			}
			p.unread = chunk
		case <-p.done:
			return 0, os.ErrClosed
		}
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p *pipe) Close() error                { p.Abort(); return nil }

func (p *pipe) CloseWrite() error {
	p.outOnce.Do(func() { p.outErr = p.out.Close() })
	return p.outErr
}

func (p *pipe) Abort() {
	p.once.Do(func() { close(p.done) })
	p.CloseWrite()
}
