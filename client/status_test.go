package client_test

import (
	"testing"

	"adit/client"
	"adit/internal/testnet"
	"adit/server"
)

func TestStatus(t *testing.T) {
	echo := testnet.Echo(t)
	g := startServer(t, server.Config{}, access(t, echo))
	cfg := g.clientConfig(tcp(echo), tcp(testnet.RefusedAddr(t)))
	// The first of the two servers cannot be reached.
	cfg.Servers = []string{unreachableURL(t), g.url()}
	c := run(t, cfg, func(c *client.Client) {
		if st := c.Status(); st.Link.Up || st.Link.Error != "" || st.Link.Since.IsZero() || len(st.Forwards) != 2 || len(st.Sessions) != 0 {
			t.Errorf("at first %+v", st)
		}
		if err := c.Ready(); err == nil || err.Error() != "connecting" {
			t.Errorf("ready at first: %v", err)
		}
	})
	eventually(t, "there is a link", func() bool { return c.Ready() == nil })
	conn := c.dial(t, 0)
	mustEcho(t, conn)
	if f := c.Status().Forwards; f[0].Connections != 1 {
		t.Errorf("%+v", f)
	}
	conn.Close()
	c.dialReset(t, 1, "")
	eventually(t, "the connections have ended", func() bool {
		f := c.Status().Forwards
		return f[0].Connections == 0 && f[1].Connections == 0
	})
	st := c.Status()
	if !st.Link.Up || st.Link.Server != g.url() || st.Link.Error != "" {
		t.Errorf("%+v", st.Link)
	}
	if len(st.Sessions) != 1 || st.Sessions[0].Server != g.url() || st.Sessions[0].Address != g.addr || !st.Sessions[0].Connected || st.Sessions[0].Received == 0 {
		t.Errorf("%+v", st.Sessions)
	}
	if f := st.Forwards; f[0].Opened != 1 || f[0].Refused["forbidden"] != 0 || f[0].Target != echo || f[1].Opened != 1 || f[1].Refused["forbidden"] != 1 || f[1].Listen != c.Addrs()[1].String() {
		t.Errorf("%+v", f)
	}
	if n := st.Counts; n.SessionsOpened != 1 || n.HandshakeFailures["tcp"] != 1 || n.Dials["connected"].Count != 1 || n.Dials["tcp"].Count != 1 || n.Received == 0 {
		t.Errorf("%+v", n)
	}

	// The traffic of a session that has ended still counts.
	received := st.Counts.Received
	g.stop()
	eventually(t, "there is no link", func() bool { return c.Ready() != nil && c.Status().Link.Error != "" })
	eventually(t, "there is no session", func() bool { return len(c.Status().Sessions) == 0 })
	st = c.Status()
	ended := uint64(0)
	for _, n := range st.Counts.SessionsEnded {
		ended += n
	}
	if st.Link.Up || st.Counts.Received < received || ended != 1 || st.Counts.SessionsEnded["other"] != 0 {
		t.Errorf("%+v", st)
	}
}
