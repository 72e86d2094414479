package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFilesFaults(t *testing.T) {
	dir := t.TempDir()
	ca := issue(t, nil, nil)
	a, b := issue(t, &ca, nil), issue(t, &ca, nil)
	expired := issue(t, &ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, data []byte) string { return write(t, dir, name, data) }
	cert, key := f("a.crt", a.certPEM()), f("a.key", a.keyPEM(t))
	garbage, empty := f("garbage", []byte("hello")), f("empty", nil)
	encrypted := f("enc.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}))
	legacy := f("legacy.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der,
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}}))
	damaged := f("damaged.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw[:50]}))
	damagedKey := f("damaged.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der[:50]}))
	for name, c := range map[string]struct{ cert, key, want string }{
		"missing certificate":   {dir + "/none", key, "no such file"},
		"missing key":           {cert, dir + "/none", "no such file"},
		"directory":             {dir, key, "not a regular file"},
		"device":                {"/dev/zero", key, "not a regular file"},
		"UTF-16":                {f("utf16.crt", wide(a.certPEM())), key, "it is UTF-16, not UTF-8"},
		"key in UTF-16":         {cert, f("utf16.key", wide(a.keyPEM(t))), "it is UTF-16, not UTF-8"},
		"leaf without its end":  {f("end.crt", append(bytes.TrimRight(a.certPEM(), "\n-"), ca.certPEM()...)), key, "2 of its 2 certificates cannot be decoded"},
		"swapped":               {key, cert, "holds a private key and no certificate"},
		"key is a certificate":  {cert, cert, "holds a certificate and no private key"},
		"not PEM":               {garbage, key, "not PEM"},
		"key not PEM":           {cert, garbage, "not PEM"},
		"empty":                 {empty, key, "empty"},
		"empty key":             {cert, empty, "empty"},
		"DER":                   {f("a.der", a.cert.Raw), key, "DER"},
		"key DER":               {cert, f("key.der", der), "DER"},
		"encrypted":             {cert, encrypted, "encrypted"},
		"encrypted, old format": {cert, legacy, "encrypted"},
		"damaged":               {damaged, key, "certificate number 1"},
		"damaged key":           {cert, damagedKey, "damaged"},
		"other key":             {cert, f("b.key", b.keyPEM(t)), "does not belong"},
		"chain upside down":     {f("chain", append(ca.certPEM(), a.certPEM()...)), key, "further down"},
		"expired":               {f("old.crt", expired.certPEM()), f("old.key", expired.keyPEM(t)), "expired on"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Files(c.cert, c.key)
			hinted(t, err, c.want)
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		if os.Geteuid() == 0 {
			hinted(t, &Error{Step: "key", File: "k", Err: os.ErrPermission, hint: readHint(os.ErrPermission)}, "permission")
			return // root can read every file
		}
		locked := f("locked.key", a.keyPEM(t))
		if err := os.Chmod(locked, 0); err != nil {
			t.Fatal(err)
		}
		_, err := Files(cert, locked)
		hinted(t, err, "permission denied")
	})
}

// wide returns text in UTF-16, as PowerShell writes it.
func wide(text []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, c := range text {
		out = append(out, c, 0)
	}
	return out
}

// Files that begin with a byte order mark, joined ones too, lose no certificate.
func TestFilesWithByteOrderMarks(t *testing.T) {
	dir, mark := t.TempDir(), "\ufeff"
	ca := issue(t, nil, nil)
	a := issue(t, &ca, nil)
	windows := func(data []byte) string { return mark + strings.ReplaceAll(string(data), "\n", "\r\n") }
	chain := write(t, dir, "chain.pem", []byte(windows(a.certPEM())+windows(ca.certPEM())))
	src, err := Files(chain, write(t, dir, "key.pem", []byte(windows(a.keyPEM(t)))))
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := src.GetCertificate(nil)
	if len(cert.Certificate) != 2 || !src.Leaf().Equal(a.cert) {
		t.Errorf("%d certificates, leaf %s", len(cert.Certificate), src.Leaf().Subject)
	}
	pool, err := LoadPool(write(t, dir, "ca.pem", []byte(windows(ca.certPEM()))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.cert.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Error(err)
	}
}

func TestFilesKinds(t *testing.T) {
	dir := t.TempDir()
	ca := issue(t, nil, nil)
	a := issue(t, &ca, nil)
	sec1, err := x509.MarshalECPrivateKey(a.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	// openssl ecparam -genkey writes its parameters first.
	withParams := append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...)
	chain := append(a.certPEM(), ca.certPEM()...)
	both := write(t, dir, "both.pem", append(a.keyPEM(t), chain...))
	for _, c := range [][2]string{
		{write(t, dir, "chain", chain), write(t, dir, "sec1", withParams)},
		{both, both},
	} {
		src, err := Files(c[0], c[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := src.GetCertificate(nil)
		if err != nil || len(got.Certificate) != 2 || !src.Leaf().Equal(a.cert) || !src.Expiry().Equal(a.cert.NotAfter) {
			t.Errorf("%v: %v", c, err)
		}
		if w := src.Warnings(); len(w) != 0 {
			t.Error(w)
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edDER, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range [][]byte{x509.MarshalPKCS1PrivateKey(rsaKey), edDER} {
		if _, err := parseKeyDER(der); err != nil {
			t.Error(err)
		}
	}
}

func TestWarnings(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode bits")
	}
	ca := issue(t, nil, nil)
	a := issue(t, &ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })
	dir := t.TempDir()
	key := write(t, dir, "key", a.keyPEM(t))
	src, err := Files(write(t, dir, "cert", append(a.certPEM(), ca.certPEM()...)), key)
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o600: "", 0o640: "", 0o644: "read by every user", 0o660: "changed by other users"} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		w := src.Warnings()
		if !strings.Contains(w[len(w)-1], "not valid before") {
			t.Errorf("%v", w)
		}
		if (want == "") != (len(w) == 1) || !strings.Contains(w[0], want) {
			t.Errorf("mode %o: %v", mode, w)
		}
	}
}

// Handshakes continue with whole pairs during reloads.
func TestReloadConcurrently(t *testing.T) {
	ca := issue(t, nil, nil)
	pairs := []issued{issue(t, &ca, nil), issue(t, &ca, nil)}
	dir := t.TempDir()
	src, err := Files(write(t, dir, "cert", pairs[0].certPEM()), write(t, dir, "key", pairs[0].keyPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := src.GetCertificate(nil)
				if err != nil || !samePublic(c.PrivateKey.(*ecdsa.PrivateKey).Public(), c.Leaf.PublicKey) {
					t.Error("a mixed pair")
					return
				}
			}
		})
	}
	for i := range 50 {
		p := pairs[i%2]
		write(t, dir, "cert", p.certPEM())
		_ = src.Reload() // fails: the key is still the old one
		write(t, dir, "key", p.keyPEM(t))
		if err := src.Reload(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func FuzzParsePair(f *testing.F) {
	ca := issue(f, nil, nil)
	a := issue(f, &ca, nil)
	f.Add(a.certPEM(), a.keyPEM(f))
	f.Add(a.keyPEM(f), a.certPEM())
	f.Add(a.cert.Raw, []byte{})
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		c, err := parsePair(cert, key, "c", "k", time.Now())
		if err != nil {
			hinted(t, err, "")
			return
		}
		if c.Leaf == nil || len(c.Certificate) == 0 || c.PrivateKey == nil {
			t.Fatal("an incomplete pair")
		}
	})
}
