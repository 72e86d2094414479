package certs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// event is what Run reported.
type event struct {
	reloaded bool
	err      error
}

// watched starts Run with a short interval. next returns its next report; polls
// polls n times more, as Run does.
func watched(t *testing.T, src *FileSource) (next func() event, polls func(int)) {
	t.Helper()
	events := make(chan event, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		src.Run(ctx, 2*time.Millisecond, func(reloaded bool, err error) { events <- event{reloaded, err} })
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		select {
		case e := <-events:
			t.Errorf("unexpected report: %+v", e)
		default:
		}
	})
	next = func() event {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(watchdog):
			t.Fatal("nothing reported")
			return event{}
		}
	}
	polls = func(n int) {
		for range n {
			if reloaded, err := src.poll(); reloaded || err != nil {
				events <- event{reloaded, err}
			}
		}
	}
	return next, polls
}

func TestRunReloads(t *testing.T) {
	ca := issue(t, nil, nil)
	a, b, c := issue(t, &ca, nil), issue(t, &ca, nil), issue(t, &ca, nil)
	dir := t.TempDir()
	cert, key := write(t, dir, "cert", a.certPEM()), write(t, dir, "key", a.keyPEM(t))
	src, err := Files(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	next, polls := watched(t, src)
	reloads := func(want issued) {
		t.Helper()
		if e := next(); !e.reloaded || e.err != nil {
			t.Fatalf("%+v", e)
		}
		if !src.Leaf().Equal(want.cert) {
			t.Fatal("another certificate")
		}
	}
	// A mismatched pair is reported once, after two polls.
	write(t, dir, "cert", b.certPEM())
	if e := next(); e.reloaded {
		t.Fatalf("%+v", e)
	} else {
		hinted(t, e.err, "does not belong")
	}
	polls(10) // no further report
	if !src.Leaf().Equal(a.cert) {
		t.Fatal("the old pair is gone")
	}
	write(t, dir, "key", b.keyPEM(t))
	reloads(b)

	// A file that is removed and restored causes one error and no reload.
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	hinted(t, next().err, "no such file")
	polls(10)
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	polls(3)

	// The same error later is reported again.
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	hinted(t, next().err, "no such file")
	write(t, dir, "cert", c.certPEM())
	write(t, dir, "key.new", c.keyPEM(t))
	if err := os.Rename(key+".new", key); err != nil {
		t.Fatal(err)
	}
	for { // the new certificate without its key may be reported first
		e := next()
		if e.reloaded {
			break
		}
	}
	if !src.Leaf().Equal(c.cert) {
		t.Fatal("another certificate")
	}
}

// poll reports a mismatched pair only when the next poll finds it unchanged.
func TestPollHalfWritten(t *testing.T) {
	ca := issue(t, nil, nil)
	a, b := issue(t, &ca, nil), issue(t, &ca, nil)
	dir := t.TempDir()
	src, err := Files(write(t, dir, "cert", a.certPEM()), write(t, dir, "key", a.keyPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	poll := func(wantReload, wantErr bool) {
		t.Helper()
		if reloaded, err := src.poll(); reloaded != wantReload || (err != nil) != wantErr {
			t.Fatalf("got %v, %v", reloaded, err)
		}
	}
	poll(false, false)
	write(t, dir, "cert", b.certPEM())
	poll(false, false) // may be incomplete
	write(t, dir, "key", b.keyPEM(t))
	poll(true, false) // completed
	write(t, dir, "key", a.keyPEM(t))
	poll(false, false)
	poll(false, true) // still mismatched
	poll(false, false)
	hinted(t, src.Reload(), "does not belong")
	poll(false, false)
	write(t, dir, "key", bytes.TrimSpace(b.keyPEM(t)))
	poll(true, false) // other bytes, same pair
}

// poll does not repeat an error that Reload returned.
func TestReloadThenPoll(t *testing.T) {
	ca := issue(t, nil, nil)
	a := issue(t, &ca, nil)
	dir := t.TempDir()
	src, err := Files(write(t, dir, "cert", a.certPEM()), write(t, dir, "key", a.keyPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cert", []byte("x"))
	hinted(t, src.Reload(), "not PEM")
	for range 3 {
		if reloaded, err := src.poll(); reloaded || err != nil {
			t.Fatal(reloaded, err)
		}
	}
	write(t, dir, "cert", a.certPEM())
	if err := src.Reload(); err != nil {
		t.Fatal(err)
	}
}

// Kubernetes mounts the files of a secret as symbolic links through ..data,
// itself a symbolic link to a directory, and replaces ..data.
func TestRunSymlinkSwap(t *testing.T) {
	ca := issue(t, nil, nil)
	a, b := issue(t, &ca, nil), issue(t, &ca, nil)
	dir := t.TempDir()
	old := time.Now().Add(-24 * time.Hour)
	for name, i := range map[string]issued{"..v1": a, "..v2": b} {
		sub := filepath.Join(dir, name)
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, data := range map[string][]byte{"tls.crt": i.certPEM(), "tls.key": i.keyPEM(t)} {
			if err := os.Chtimes(write(t, sub, file, data), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(target, name string) {
		t.Helper()
		tmp := filepath.Join(dir, "tmp")
		if err := os.Symlink(target, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..v1", "..data")
	link("..data/tls.crt", "tls.crt")
	link("..data/tls.key", "tls.key")
	src, err := Files(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	next, _ := watched(t, src)
	link("..v2", "..data")
	if e := next(); !e.reloaded || !src.Leaf().Equal(b.cert) {
		t.Fatalf("%+v", e)
	}
	link("..v1", "..data")
	if e := next(); !e.reloaded || !src.Leaf().Equal(a.cert) {
		t.Fatalf("%+v", e)
	}
}
