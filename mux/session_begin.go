package mux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/yamux"

	"adit/mux/link"
)

var errNoControl = errors.New("the client opens no control stream")

// begin builds the layers above conn. hold is how long the session waits for
// another connection. The first yamux stream is the control stream.
//
// From the moment that the client knows of the session it can be resumed: the
// client may have opened streams by then.
func (s *Session) begin(ctx context.Context, conn link.Conn, hold time.Duration, client bool) error {
	s.buildLayers(conn, hold)
	err := s.startYamux(client)
	if err != nil {
		s.link.Close()
		s.link.Wait()
		s.releaseStore()
		return err
	}
	if !client {
		defer context.AfterFunc(ctx, func() { s.link.Fail(context.Cause(ctx)) })()
		silent := time.AfterFunc(s.cfg.HandshakeTimeout+hold, func() { s.link.Fail(errNoControl) })
		defer silent.Stop()
	}
	if s.store != nil {
		<-s.resuming // from now on others may resume it
	}
	if err := s.openControl(client); err != nil {
		cause := s.link.Err()
		s.link.Fail(err)
		s.yamux.Close()
		s.link.Wait()
		if s.store != nil {
			s.store.remove(s)
		}
		return errors.Join(err, cause)
	}
	s.link.SetResumable()
	s.wg.Go(s.control.write)
	s.wg.Go(s.readControl)
	s.wg.Go(s.awaitEnd)
	return nil
}

// buildLayers makes the link and what is between it and yamux.
func (s *Session) buildLayers(conn link.Conn, hold time.Duration) {
	cfg := &s.cfg
	s.link = link.New(conn, link.Config{
		SendBuffer: cfg.SendBuffer, PingInterval: cfg.PingInterval, Silence: cfg.Silence,
		Hold: hold, Resumable: s.store != nil, OnDown: s.onDown, OnUp: s.onUp,
	})
	s.frameSize = s.link.FrameSize
	s.adapter = &adapter{
		bulk: make(chan struct{}, 1),
		link: s.link, onEnd: s.endStreams, buffered: s.link.Buffered,
		allowance: int64(cfg.InitialCredit + streamSlack),
		limit:     int64(cfg.MaxStreams)*int64(cfg.InitialCredit+streamSlack) + int64(cfg.WindowBudget) + 1<<20,
		buffers:   make(map[uint32]*receiveBuffer), updateAfter: int(cfg.yamuxWindow() / 2),
	}
	s.control = newControl(s.adapter)
	s.windows = &windows{
		initial: int64(cfg.InitialCredit), maximum: int64(cfg.MaxWindow), budget: int64(cfg.WindowBudget),
		limit: cfg.CreditLimit, rtt: s.link.RTT, control: s.control, open: make(map[uint32]*receiveWindow),
	}
}

func (s *Session) startYamux(client bool) (err error) {
	yc := &yamux.Config{
		AcceptBacklog:     streamBacklog,
		KeepAliveInterval: time.Hour, // unused, but must be set
		// Stalls are the link's business: it detects silence. A yamux timeout would
		// lose frames of a healthy, slow link.
		ConnectionWriteTimeout: 24 * time.Hour,
		// Never in the way of our own credit, which yamux's updates lag behind by up
		// to half a window.
		MaxStreamWindowSize: s.cfg.yamuxWindow(),
		// No StreamCloseTimeout: it would reset a stream that has ended well here
		// under a peer that still reads what it was sent, for hours maybe. Accept
		// bounds what a peer may leave half closed.
		Logger: yamuxLogger{s.cfg.Logger},
	}
	if client {
		s.adapter.peerParity = 0
		s.yamux, err = yamux.Client(s.adapter, yc)
	} else {
		s.adapter.peerParity = 1
		s.yamux, err = yamux.Server(s.adapter, yc)
	}
	return err
}

// openControl opens the control stream, or accepts it.
func (s *Session) openControl(client bool) error {
	first := s.yamux.AcceptStream
	if client {
		first = s.yamux.OpenStream
	}
	ys, err := first()
	if err != nil {
		return err
	}
	if ys.StreamID() != controlStream {
		return link.ProtocolError("the first stream is number %d", ys.StreamID())
	}
	if client {
		// The opening of a yamux stream travels with its first data.
		return s.adapter.writeData(controlStream, appendControl(make([]byte, yamuxHeader), controlFrame{}), nil)
	}
	return nil
}

// awaitEnd waits for the end of yamux and ends the rest.
func (s *Session) awaitEnd() {
	<-s.yamux.CloseChan()
	if s.store != nil {
		s.store.remove(s)
	}
	s.yamux.Close() // waits for yamux's goroutines
	s.control.stop()
	close(s.done)
}

// onDown is called when the link has lost its connection and waits for another.
func (s *Session) onDown(cause error) {
	if s.store != nil {
		s.store.review(s)
	}
	if s.cfg.OnDown != nil {
		s.cfg.OnDown(cause)
	}
}

// onUp is called when the link has a connection again.
func (s *Session) onUp(r Resumption) {
	if s.store != nil {
		s.store.review(s)
	}
	if s.cfg.OnUp != nil {
		s.cfg.OnUp(r)
	}
}

// releaseStore removes a session from its store that has never begun.
func (s *Session) releaseStore() {
	if s.store != nil {
		s.store.remove(s)
		<-s.resuming
	}
}

// yamuxLogger passes yamux's log lines, which are for developers, on as debug.
type yamuxLogger struct{ log *slog.Logger }

func (l yamuxLogger) Print(v ...any)   { l.Printf("%s", fmt.Sprint(v...)) }
func (l yamuxLogger) Println(v ...any) { l.Printf("%s", fmt.Sprintln(v...)) }

// Printf formats only what is logged: a peer can provoke any number of lines.
func (l yamuxLogger) Printf(format string, v ...any) {
	if ctx := context.Background(); l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, fmt.Sprintf(format, v...))
	}
}
