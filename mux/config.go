package mux

import (
	"log/slog"
	"time"
)

// Config has the limits and times of a session. The zero value, like nil, means
// the defaults. A negative value counts as zero, unless said otherwise.
type Config struct {
	// MaxStreams is how many streams the peer may have open here at once. Further
	// ones are refused as Busy. Default 4096.
	MaxStreams int
	// RecycleAfter is how many streams are opened on a session before GoingAway asks
	// for another one: yamux has ids for 2³¹ streams and never uses one again.
	// Default and most 2³⁰.
	RecycleAfter int
	// InitialCredit is how many bytes a new stream may send before its reader
	// takes any. Default 64 KiB, at least 8 KiB.
	InitialCredit int
	// MaxWindow is how far that grows for a stream whose reader keeps up.
	// Default 16 MiB, at most 1 GiB.
	MaxWindow int
	// WindowBudget bounds the growth of all streams of a session together. So the
	// unread bytes of a session never exceed MaxStreams × InitialCredit +
	// WindowBudget, and some headers. Default 128 MiB: 256 bulk streams have
	// bulkWindow each.
	WindowBudget int
	// CreditLimit bounds the credit that this session grants together with others
	// that share the limit. Streams for which there is no initial credit are refused
	// as Busy. nil: no bound but the session's own.
	CreditLimit *CreditLimit
	// SendBuffer bounds the sent bytes that are kept for the peer to acknowledge;
	// they occupy at most twice as much memory. Default 16 MiB, at least 512 KiB.
	SendBuffer int
	// PingInterval is the time between pings, jittered by a quarter.
	// Default 20 s.
	PingInterval time.Duration
	// Silence is how long a connection may bring no byte at all before it counts
	// as dead. Default 45 s.
	Silence time.Duration
	// HandshakeTimeout bounds the exchange of hello messages. Default 10 s.
	HandshakeTimeout time.Duration
	// OpenTimeout is how long an accepted stream may take to send its target.
	// Default 10 s.
	OpenTimeout time.Duration
	// ResumeTimeout is how long a session that has lost its connection waits for
	// another, until its streams are reset. The shorter of the two sides' times
	// applies. Default 2 min; negative: not at all.
	ResumeTimeout time.Duration
	// OnDown and OnUp, if not nil, are called when a session loses its connection
	// and waits, and when it continues on another. They must return soon and must
	// not call the session.
	OnDown func(cause error)
	OnUp   func(Resumption)
	// Logger gets yamux's log lines, at level debug. Default: discarded.
	Logger *slog.Logger
}

func (c *Config) withDefaults() Config {
	var d Config
	if c != nil {
		d = *c
	}
	orDefault(&d.MaxStreams, 4096)
	orDefault(&d.RecycleAfter, maxRecycleAfter)
	d.RecycleAfter = min(d.RecycleAfter, maxRecycleAfter)
	orDefault(&d.InitialCredit, 64<<10)
	orDefault(&d.MaxWindow, 16<<20)
	orDefault(&d.WindowBudget, 128<<20)
	orDefault(&d.SendBuffer, 16<<20)
	orDefault(&d.PingInterval, 20*time.Second)
	orDefault(&d.Silence, 45*time.Second)
	orDefault(&d.HandshakeTimeout, 10*time.Second)
	orDefault(&d.OpenTimeout, 10*time.Second)
	if d.ResumeTimeout == 0 {
		d.ResumeTimeout = 2 * time.Minute
	}
	d.ResumeTimeout = max(d.ResumeTimeout, 0)
	d.InitialCredit = max(d.InitialCredit, 8<<10)
	d.InitialCredit = min(d.InitialCredit, maxWindow)
	d.MaxWindow = min(max(d.MaxWindow, d.InitialCredit), maxWindow)
	d.SendBuffer = max(d.SendBuffer, minSendBuffer)
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// minSendBuffer is twice the most that the link queues.
const minSendBuffer = 512 << 10

// maxWindow is the bound of Config.MaxWindow: yamux's own windows, which are
// more than twice as large, fit 32 bits.
const maxWindow = 1 << 30

// maxRecycleAfter is the bound of Config.RecycleAfter: half of yamux's stream ids, so
// that a session can be replaced at leisure. lastStreamID is the last id that is used.
const (
	maxRecycleAfter = 1 << 30
	lastStreamID    = 1<<32 - 1<<10
)

// streamBacklog is how many opened streams may wait to be accepted, here and at
// the peer.
const streamBacklog = 4096

// streamSlack is what a stream may send beyond its credit: its header, its
// result, its end, and the control frames about it.
const streamSlack = 2 << 10

// yamuxWindow is what each side's yamux may send on a stream: above what credit
// ever allows.
func (c *Config) yamuxWindow() uint32 { return 2*uint32(c.MaxWindow) + 1<<20 }
