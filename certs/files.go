package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// FileSource is a Source of a certificate and key in two PEM files, which it
// can reload. It is safe for concurrent use.
type FileSource struct {
	certFile, keyFile string
	warnings          []string // of SelfSigned

	live atomic.Pointer[loaded]

	mu     sync.Mutex // held while loading
	failed failure    // guarded by mu
}

// loaded is the pair in use and the file contents that it was loaded from.
type loaded struct {
	cert  *tls.Certificate
	state fileState
}

// fileState identifies the contents of both files, or the error of reading
// them. Modification times would not do: they are unreliable on network file
// systems, for files copied with their times, and for a symbolic link that
// switches to a directory prepared earlier.
type fileState [sha256.Size]byte

// failure is the last state of the files that could not be used.
type failure struct {
	state    fileState
	reported bool
}

// Files loads a certificate (the server's own first, then the intermediates)
// and its key. Both names may be the same file. An expired certificate is an
// error. Errors are *Error.
func Files(cert, key string) (*FileSource, error) {
	f := &FileSource{certFile: cert, keyFile: key}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// GetCertificate returns the current pair.
func (f *FileSource) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.live.Load().cert, nil
}

// Leaves implements Source.
func (f *FileSource) Leaves() []*x509.Certificate { return []*x509.Certificate{f.Leaf()} }

// Leaf returns the current certificate, which is shared and must not be
// changed.
func (f *FileSource) Leaf() *x509.Certificate { return f.live.Load().cert.Leaf }

// Expiry returns the end of the current certificate's validity.
func (f *FileSource) Expiry() time.Time { return f.Leaf().NotAfter }

// Reload loads the files now, whether or not they changed. If they cannot be
// used, it returns an *Error and the old pair stays in use.
func (f *FileSource) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, cert, err := f.read()
	if err != nil {
		// The caller gets the error, so Run does not report it again.
		f.failed = failure{state, true}
		return err
	}
	f.failed = failure{}
	f.live.Store(&loaded{cert, state})
	return nil
}

// Current reports whether the files hold the pair in use, expired or not.
func (f *FileSource) Current() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, _, _ := f.read()
	return state == f.live.Load().state
}

// read loads both files. The state is valid even with an error.
func (f *FileSource) read() (fileState, *tls.Certificate, error) {
	certPEM, err := readFile("certificate", f.certFile)
	if err != nil {
		return sha256.Sum256([]byte(err.Error())), nil, err
	}
	keyPEM, err := readFile("key", f.keyFile)
	if err != nil {
		return sha256.Sum256(fmt.Appendf(certPEM, "\x00%v", err)), nil, err
	}
	certSum, keySum := sha256.Sum256(certPEM), sha256.Sum256(keyPEM)
	state := fileState(sha256.Sum256(append(certSum[:], keySum[:]...)))
	if live := f.live.Load(); live != nil && live.state == state && time.Now().Before(live.cert.Leaf.NotAfter) {
		return state, live.cert, nil // unchanged
	}
	cert, err := parsePair(certPEM, keyPEM, f.certFile, f.keyFile, time.Now())
	return state, cert, err
}

// Warnings returns what is suspect about the current files but no error: a key
// that other users can read, a certificate without its chain, one that is not
// valid yet or has expired since it was loaded. Each is one sentence.
func (f *FileSource) Warnings() []string {
	list := append([]string(nil), f.warnings...)
	if w := keyModeWarning(f.keyFile); w != "" {
		list = append(list, w)
	}
	if w := chainWarning(f.certFile, f.live.Load().cert); w != "" {
		list = append(list, w)
	}
	leaf, now := f.Leaf(), time.Now()
	if now.Before(leaf.NotBefore) {
		list = append(list, fmt.Sprintf("certificate %s is not valid before %s: check this machine's clock", f.certFile, stamp(leaf.NotBefore)))
	}
	if now.After(leaf.NotAfter) {
		list = append(list, fmt.Sprintf("certificate %s expired on %s: %s", f.certFile, stamp(leaf.NotAfter), renewHint))
	}
	return list
}

// keyModeWarning returns a warning about the permissions of a key file, or "".
// Read access for a group is common (ssl-cert) and gets none.
func keyModeWarning(file string) string {
	if runtime.GOOS == "windows" {
		return "" // Windows has no permission bits
	}
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o022 != 0:
		return fmt.Sprintf("key %s can be changed by other users (mode %04o): chmod 600 %s", file, mode, file)
	case mode&0o004 != 0:
		return fmt.Sprintf("key %s can be read by every user (mode %04o): chmod 600 %s", file, mode, file)
	}
	return ""
}
