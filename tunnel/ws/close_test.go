package ws

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestCloseHandshake(t *testing.T) {
	for _, s := range bothSides {
		for _, tt := range []struct {
			name, want string
			code       StatusCode
			reason     string
		}{
			{"code and reason", closeBody(1001, "bye"), StatusGoingAway, "bye"},
			{"empty", "", StatusNoStatus, "not sent"},
			{"code that may not be sent", "", 1006, ""},
			{"long reason", closeBody(4000, strings.Repeat("é", 61)), 4000, strings.Repeat("é", 70)},
			{"reason not UTF-8", closeBody(1000, "a\uFFFDb"), 1000, "a\xffb"},
		} {
			t.Run(s.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				raw, c := s.start(t, Options{CloseTimeout: watchdog})
				go func() {
					// Data and pings before the Close frame are discarded.
					raw.Write(s.frame(fin|bin, strings.Repeat("x", 9000)))
					raw.Write(s.frame(fin|ping, "p"))
				}()
				closed := make(chan error, 1)
				go func() { closed <- c.Close(tt.code, tt.reason) }()
				f := s.mustFrame(t, raw)
				if f != (rawFrame{fin | closE, tt.want}) || !utf8.ValidString(f.payload[min(2, len(f.payload)):]) {
					t.Errorf("sent %q, want a Close with %q", f, tt.want)
				}
				raw.Write(s.frame(fin|closE, tt.want))
				if !s.client {
					// The server closes TCP first.
					if b, err := io.ReadAll(raw); err != nil || len(b) > 0 {
						t.Errorf("after the Close: %q, %v", b, err)
					}
				}
				raw.CloseWrite()
				if err := <-closed; err != nil {
					t.Errorf("Close: %v", err)
				}
				if b, err := io.ReadAll(raw); err != nil || len(b) > 0 {
					t.Errorf("after the Close: %q, %v", b, err)
				}
				if err := c.Close(StatusNormal, ""); err != nil {
					t.Errorf("second Close: %v", err)
				}
				if err := c.WriteMessage(OpBinary, nil); !errors.Is(err, net.ErrClosed) {
					t.Errorf("write after Close: %v", err)
				}
			})
		}
	}
}

// Both ends of a connection close at the same time, from several goroutines.
func TestCloseBothEnds(t *testing.T) {
	raw, nc := tcpPair(t)
	a := newConn(raw, nil, true, false, Options{CloseTimeout: watchdog})
	b := newConn(nc, nil, false, false, Options{CloseTimeout: watchdog})
	errs := make(chan error)
	for _, c := range []*Conn{a, b, a, b} {
		go func() { errs <- c.Close(StatusNormal, "") }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// Close unblocks a reader and a writer, and returns although the peer does nothing.
func TestCloseUnresponsivePeer(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			_, c, blocked := stuffed(t, s, Options{CloseTimeout: 50 * time.Millisecond})
			read := make(chan error, 1)
			go func() { _, err := c.NextMessage(); read <- err }()
			if err := c.Close(StatusNormal, ""); err == nil {
				t.Error("Close reports success")
			}
			if err := <-blocked; err == nil {
				t.Error("the writer reports success")
			}
			if err := <-read; err == nil {
				t.Error("the reader reports success")
			}
		})
	}
}

// A peer that keeps sending gets our last frames before any reset.
func TestCloseFloodingPeer(t *testing.T) {
	for _, s := range bothSides {
		for _, fault := range []bool{false, true} {
			raw, c := s.start(t, Options{CloseTimeout: 200 * time.Millisecond})
			if fault {
				raw.Write(s.frame(fin|15, ""))
				if _, err := c.NextMessage(); endOf(err) != -1002 {
					t.Error(err)
				}
			}
			stop := make(chan struct{})
			flooded := make(chan struct{})
			go func() {
				defer close(flooded)
				flood := s.frame(fin|bin, strings.Repeat("x", 1<<20))
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := raw.Write(flood); err != nil {
						return
					}
				}
			}()
			if err := c.WriteMessage(OpText, []byte("last data")); !fault && err != nil {
				t.Error(err)
			}
			closed := make(chan struct{})
			go func() { defer close(closed); c.Close(StatusNormal, "") }()
			if !fault {
				if f := s.mustFrame(t, raw); f.payload != "last data" {
					t.Errorf("read %q", f)
				}
			}
			if f := s.mustFrame(t, raw); f.first != fin|closE {
				t.Errorf("read %q, want a Close", f)
			}
			if b, err := io.ReadAll(raw); err != nil || len(b) > 0 {
				// Our half-close arrives before the peer has stopped sending.
				t.Errorf("after the Close: %q, %v", b, err)
			}
			close(stop)
			<-closed
			<-flooded
		}
	}
}

// The reader's answer to a Close frame is sent without a call of Close, and after the message that is being
// written.
func TestCloseAnswered(t *testing.T) {
	for _, s := range bothSides {
		raw, c := s.start(t, Options{})
		raw.Write(s.frame(fin|closE, closeBody(3000, "")))
		if _, err := c.NextMessage(); endOf(err) != 3000 {
			t.Error(err)
		}
		if f := s.mustFrame(t, raw); f != (rawFrame{fin | closE, closeBody(3000, "")}) {
			t.Errorf("sent %q", f)
		}
		if err := c.WriteMessage(OpBinary, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after the answer: %v", err)
		}
		if err := c.Ping(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ping after the answer: %v", err)
		}
		raw.Close()
		if err := c.Close(StatusNormal, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseAfterLoss(t *testing.T) {
	for _, s := range bothSides {
		raw, c := s.start(t, Options{})
		raw.SetLinger(0)
		raw.Close()
		_, err := c.NextMessage()
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("reset reads as %v", err)
		}
		if err := c.Close(StatusNormal, ""); err == nil {
			t.Error("Close after a reset reports success")
		}
	}
}

// tlsPair returns two connected Conns over TLS over TCP.
func tlsPair(t *testing.T, opts Options) (client, server *Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	a, b := tcpPair(t)
	a.SetDeadline(time.Time{})
	ca := tls.Client(a, &tls.Config{ServerName: "test", RootCAs: pool})
	cb := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- cb.HandshakeContext(ctx) }()
	if err := ca.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	client = newConn(ca, nil, true, true, opts)
	server = newConn(cb, nil, false, true, opts)
	t.Cleanup(func() { client.CloseNow(); server.CloseNow() })
	return client, server
}

func TestTLS(t *testing.T) {
	t.Run("transfer and close", func(t *testing.T) {
		client, server := tlsPair(t, Options{CloseTimeout: watchdog})
		want := strings.Repeat("0123456789abcdef", 1<<16)
		go func() {
			client.WriteMessage(OpBinary, []byte(want))
			client.Close(StatusNormal, "done")
		}()
		all, err := readAll(server, 64<<10)
		if len(all) != 1 || all[0].payload != want || endOf(err) != 1000 {
			t.Errorf("%d messages, %v", len(all), err)
		}
		if err := server.Close(StatusNormal, ""); err != nil {
			t.Error(err)
		}
		if err := client.Close(StatusNormal, ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("close to a peer that does not read", func(t *testing.T) {
		client, server := tlsPair(t, Options{CloseTimeout: 50 * time.Millisecond})
		blocked := make(chan error, 1)
		go func() {
			b := make([]byte, client.Headroom()+32<<20)
			blocked <- client.WriteBuffer(OpBinary, b)
		}()
		if _, err := server.NextMessage(); err != nil {
			t.Fatal(err)
		}
		if err := client.Close(StatusNormal, ""); err == nil {
			t.Error("Close reports success")
		}
		if err := <-blocked; err == nil {
			t.Error("the writer reports success")
		}
	})
	t.Run("CloseNow frees a writer", func(t *testing.T) {
		client, server := tlsPair(t, Options{})
		blocked := make(chan error, 1)
		go func() {
			b := make([]byte, client.Headroom()+32<<20)
			blocked <- client.WriteBuffer(OpBinary, b)
		}()
		if _, err := server.NextMessage(); err != nil {
			t.Fatal(err)
		}
		client.CloseNow()
		if err := <-blocked; err == nil {
			t.Error("the writer reports success")
		}
		if _, err := io.Copy(io.Discard, server); err == nil {
			t.Error("a message that was cut short reads as whole")
		}
	})
}
