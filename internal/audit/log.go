package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Sink writes records. One goroutine uses it.
type Sink interface {
	// Write writes records in order. It may block. If it returns an error, all
	// of them count as lost.
	Write([]Record) error
	Close() error
}

// Options configure a Log. Zero and nil fields mean their defaults.
type Options struct {
	// Queue is how many records may wait for the sink; further ones are
	// dropped. Default 4096.
	Queue int
	// Report is called with the number of records lost since the previous
	// call and the sink's last error, which is nil if the sink is only too
	// slow. It is called from one goroutine at a time. Default: no reports.
	Report func(lost int64, err error)
	// Every is the minimum interval between two reports. Default 10 s.
	Every time.Duration
}

// Log queues records and writes them to a sink in the background. Records that
// the sink is too slow for or fails to write are lost and counted.
type Log struct {
	opts    Options
	queue   chan Record
	pending atomic.Int64 // records in the queue and in the sink's Write

	replace sync.Mutex // serializes Replace
	next    chan Sink  // the sink that replaces the current one; capacity 1

	lost    atomic.Int64 // since the last report
	lastErr atomic.Pointer[error]
	anyLost chan struct{} // wakes the reporter; capacity 1

	stop     chan struct{} // closed by Close
	written  chan struct{} // closed when the writer has ended
	reported chan struct{} // closed when the reporter has ended
}

// New starts a Log, which owns the sink. The caller must Close it.
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
		next: make(chan Sink, 1), anyLost: make(chan struct{}, 1),
		stop: make(chan struct{}), written: make(chan struct{}), reported: make(chan struct{}),
	}
	go l.write(sink)
	go l.report()
	return l
}

// Put queues a record. It never blocks. After Close the record is lost.
func (l *Log) Put(r Record) {
	r.trim()
	l.pending.Add(1)
	select {
	case l.queue <- r:
	default:
		l.pending.Add(-1)
		l.lose(1)
	}
}

// Replace makes the Log use and own another sink, for example the same path
// opened again after a rotation. The old sink is closed after its current
// Write.
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

// Close writes the queued records, closes the sink and makes the last report.
// If ctx ends first, Close counts the unwritten records as lost and returns
// ctx's error; a sink that blocks forever then keeps its goroutine.
func (l *Log) Close(ctx context.Context) error {
	close(l.stop)
	var err error
	select {
	case <-l.written:
	case <-ctx.Done():
		err = context.Cause(ctx)
		l.lose(l.pending.Load())
	}
	<-l.reported
	l.reportLost()
	return err
}

// lose counts n records as lost and wakes the reporter.
func (l *Log) lose(n int64) {
	if n == 0 {
		return
	}
	l.lost.Add(n)
	select {
	case l.anyLost <- struct{}{}:
	default:
	}
}

// batchSize is how many records one Write of the sink gets at most.
const batchSize = 256

// write is the writer goroutine, which owns the sink.
func (l *Log) write(sink Sink) {
	defer close(l.written)
	defer func() { sink.Close() }()
	batch := make([]Record, 0, batchSize)
	for {
		select {
		case r := <-l.queue:
			l.writeBatch(sink, l.fill(append(batch, r)))
		case next := <-l.next:
			sink.Close()
			sink = next
		case <-l.stop:
			for rest := l.fill(batch); len(rest) > 0; rest = l.fill(batch) {
				l.writeBatch(sink, rest)
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

func (l *Log) writeBatch(sink Sink, batch []Record) {
	if err := sink.Write(batch); err != nil {
		l.lastErr.Store(&err)
		l.lose(int64(len(batch)))
	}
	l.pending.Add(-int64(len(batch)))
}

// fill appends queued records to a batch up to its capacity, without waiting.
func (l *Log) fill(batch []Record) []Record {
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

// report is the reporter goroutine. It reports the first loss at once.
func (l *Log) report() {
	defer close(l.reported)
	for {
		select {
		case <-l.anyLost:
			l.reportLost()
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

func (l *Log) reportLost() {
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
