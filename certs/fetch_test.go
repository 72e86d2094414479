package certs

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

func TestFetch(t *testing.T) {
	pair, err := Ephemeral([]string{"gw.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	ln := testnet.Listen(t)
	asked := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		tls.Server(c, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked <- hello.ServerName
			return &pair, nil
		}}).Handshake()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cert, err := Fetch(ctx, ln.Addr().String(), "other.example.com")
	if err != nil || PinOf(cert) != PinOf(pair.Leaf) {
		t.Errorf("%v, %v", cert, err)
	}
	if name := <-asked; name != "other.example.com" {
		t.Errorf("the server is asked for %q", name)
	}
	refused := testnet.RefusedAddr(t)
	if _, err := Fetch(ctx, refused, "x"); err == nil || !strings.Contains(err.Error(), "get the certificate of "+refused) {
		t.Errorf("%v", err)
	}
}
