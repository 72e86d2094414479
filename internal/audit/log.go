package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Sink is where records go. Only one goroutine uses it.
type Sink interface {
	// Write keeps records, in order. It may block. On an error none of them
	// counts as kept.
	Write([]Record) error
	Close() error
}

// Options of a Log. The zero value is useful.
type Options struct {
	// Queue is how many records may wait for the sink; more are dropped.
	// Default 4096.
	Queue int
	// Report is told how many records were lost since the last time, and the
	// sink's last error, which is nil if it is merely too slow. Nil: nobody.
	Report func(lost int64, err error)
	// Every is the least time between two reports. Default 10 s.
	Every time.Duration
}

// Log takes records and has a sink write them in the background. A record that
// the sink cannot keep up with, or fails to write, is lost and counted.
type Log struct {
	opts    Options
	queue   chan Record
	waiting atomic.Int64 // in the queue and at the sink

	next    chan Sink // the sink that takes over; at most one waits
	replace sync.Mutex

	lost    atomic.Int64
	lastErr atomic.Pointer[error]
	some    chan struct{} // lost has grown

	stop    chan struct{}
	written chan struct{} // closed when the writer has ended
	told    chan struct{} // closed when the reporter has ended
}

// New starts a Log, which owns the sink. End it with Close.
func New(sink Sink, o Options) *Log {
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.Every <= 0 {
		o.Every = 10 * time.Second
	}
	if o.Report == nil {
		o.Report = func(int64, error) {}
	}
	l := &Log{
		opts: o, queue: make(chan Record, o.Queue),
		next: make(chan Sink, 1), some: make(chan struct{}, 1),
		stop: make(chan struct{}), written: make(chan struct{}), told: make(chan struct{}),
	}
	go l.write(sink)
	go l.report()
	return l
}

// Put hands over a record. It never blocks. After Close the record is lost.
func (l *Log) Put(r Record) {
	r.trim()
	l.waiting.Add(1)
	select {
	case l.queue <- r:
	default:
		l.waiting.Add(-1)
		l.lose(1)
	}
}

// Replace makes another sink take over, which the Log then owns: the same file
// anew, after it was moved away. The old one is closed once it has written
// what it is at.
func (l *Log) Replace(sink Sink) {
	l.replace.Lock()
	defer l.replace.Unlock()
	select {
	case superseded := <-l.next:
		superseded.Close()
	default:
	}
	l.next <- sink
}

// Close lets the sink write what is queued, closes it, and makes the last
// report. When ctx ends first it gives up, counts as lost what is not written,
// and returns the error of ctx; a sink that blocks for ever then stays behind.
func (l *Log) Close(ctx context.Context) error {
	close(l.stop)
	var err error
	select {
	case <-l.written:
	case <-ctx.Done():
		err = context.Cause(ctx)
		l.lose(l.waiting.Load())
	}
	<-l.told
	l.tell()
	return err
}

func (l *Log) lose(n int64) {
	if n == 0 {
		return
	}
	l.lost.Add(n)
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// batchSize is how many records the sink gets at once.
const batchSize = 256

// write is the goroutine that owns the sink.
func (l *Log) write(sink Sink) {
	defer close(l.written)
	defer func() { sink.Close() }()
	batch := make([]Record, 0, batchSize)
	for {
		select {
		case r := <-l.queue:
			l.keep(sink, l.more(append(batch, r)))
		case next := <-l.next:
			sink.Close()
			sink = next
		case <-l.stop:
			for rest := l.more(batch); len(rest) > 0; rest = l.more(batch) {
				l.keep(sink, rest)
			}
			select {
			case unused := <-l.next:
				unused.Close()
			default:
			}
			return
		}
	}
}

func (l *Log) keep(sink Sink, batch []Record) {
	if err := sink.Write(batch); err != nil {
		l.lastErr.Store(&err)
		l.lose(int64(len(batch)))
	}
	l.waiting.Add(-int64(len(batch)))
}

// more adds what is queued to a batch, as much as fits.
func (l *Log) more(batch []Record) []Record {
	for len(batch) < cap(batch) {
		select {
		case r := <-l.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// report is the goroutine that tells of losses. The first is told of at once.
func (l *Log) report() {
	defer close(l.told)
	for {
		select {
		case <-l.some:
			l.tell()
		case <-l.stop:
			return
		}
		select {
		case <-time.After(l.opts.Every):
		case <-l.stop:
			return
		}
	}
}

func (l *Log) tell() {
	n := l.lost.Swap(0)
	if n == 0 {
		return
	}
	var err error
	if e := l.lastErr.Swap(nil); e != nil {
		err = *e
	}
	l.opts.Report(n, err)
}
