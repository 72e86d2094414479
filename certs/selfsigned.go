package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	selfSignedCert = "cert.pem"
	selfSignedKey  = "key.pem"

	selfSignedYears = 10
	ephemeralLife   = 30 * 24 * time.Hour

	// backdate is how long before its creation a certificate becomes valid,
	// for peers whose clocks are slow.
	backdate = 24 * time.Hour
)

// SelfSigned returns the certificate kept in dir as cert.pem and key.pem. If
// there is none it makes one: ECDSA P-256, valid for ten years, the key
// readable by its owner only (0600, a new dir 0700). If only the certificate
// is missing, it makes a new one for the kept key, so that pins stay valid.
// Several processes may start in the same directory at once.
//
// names are DNS names and IP addresses; an empty list means localhost,
// 127.0.0.1, ::1 and the host's name. A kept certificate that lacks one of the
// names is used nevertheless, and Warnings says so. created reports whether a
// certificate was made. Most errors are *Error.
func SelfSigned(dir string, names []string) (src *FileSource, created bool, err error) {
	given := names
	if len(names) == 0 {
		names = defaultNames()
	}
	if err := checkNames(names); err != nil {
		return nil, false, err
	}
	if dir == "" {
		return nil, false, fault("self-signed certificate", "", "give a directory that persists, such as /var/lib/adit", "no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, dirFault("self-signed certificate", dir, err)
	}
	certFile, keyFile := filepath.Join(dir, selfSignedCert), filepath.Join(dir, selfSignedKey)
	if !exists(certFile) {
		if err := makeSelfSigned(dir, certFile, keyFile, names); err != nil {
			return nil, false, err
		}
		created = true
	}
	src, err = Files(certFile, keyFile)
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.File == certFile && exists(keyFile) {
			e.hint = fmt.Sprintf("delete %s: adit then makes a new certificate for the same key, and the pin stays the same", certFile)
		}
		return nil, false, err
	}
	for _, name := range given {
		if src.Leaf().VerifyHostname(hostForVerify(name)) != nil {
			src.warnings = append(src.warnings, fmt.Sprintf(
				"certificate %s does not name %s: delete the file, and adit makes a new certificate for the same key (pins stay valid)", certFile, name))
		}
	}
	return src, created, nil
}

func dirFault(step, dir string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &Error{Step: step, File: dir, Err: err,
		hint: "give a directory that adit's user can create or write"}
}

// exists reports whether the name is taken, even by a broken symbolic link,
// which must not be overwritten.
func exists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// makeSelfSigned writes the certificate, and a key unless there is one.
func makeSelfSigned(dir, certFile, keyFile string, names []string) error {
	if !exists(keyFile) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("self-signed certificate: make a key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return fmt.Errorf("self-signed certificate: encode the key: %w", err)
		}
		if err := writeNew(dir, keyFile, 0o600, "PRIVATE KEY", der); err != nil {
			return err
		}
	}
	// The key is read back, because another process may have written it first.
	data, err := readFile("key", keyFile)
	if err != nil {
		return err
	}
	key, err := parseKey(keyFile, data)
	if err != nil {
		return err
	}
	der, err := sign(key, names, time.Now().AddDate(selfSignedYears, 0, 0))
	if err != nil {
		return err
	}
	return writeNew(dir, certFile, 0o644, "CERTIFICATE", der)
}

// writeNew writes a PEM file atomically. A file that another process has
// written meanwhile stays as it is.
func writeNew(dir, name string, mode fs.FileMode, block string, der []byte) (err error) {
	defer func() {
		if err != nil {
			err = dirFault("self-signed certificate", name, err)
		}
	}()
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if err := pem.Encode(tmp, &pem.Block{Type: block, Bytes: der}); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	// Link fails if the name exists, while Rename would replace the file.
	// Rename is for file systems without hard links.
	err = os.Link(tmp.Name(), name)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.Rename(tmp.Name(), name)
}

// Ephemeral makes a self-signed certificate in memory, valid for 30 days, for
// demonstrations and tests. names are those of SelfSigned.
func Ephemeral(names []string) (tls.Certificate, error) {
	if len(names) == 0 {
		names = defaultNames()
	}
	if err := checkNames(names); err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("ephemeral certificate: make a key: %w", err)
	}
	der, err := sign(key, names, time.Now().Add(ephemeralLife))
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("ephemeral certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// sign makes a certificate for names, signed by its own key. It is not a CA,
// so that clients which trust it trust no certificate that the key signs.
func sign(key crypto.Signer, names []string, until time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("self-signed certificate: make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: names[0]},
		NotBefore:             time.Now().Add(-backdate),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificate: sign: %w", err)
	}
	return der, nil
}

func defaultNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && !slices.Contains(names, host) && checkNames([]string{host}) == nil {
		names = append(names, host)
	}
	return names
}

func checkNames(names []string) error {
	for _, name := range names {
		if net.ParseIP(name) == nil && !isDNSName(strings.TrimPrefix(name, "*.")) {
			return fault("self-signed certificate", "", "give DNS names in ASCII or IP addresses, without ports",
				"%q is neither a DNS name nor an IP address", name)
		}
	}
	return nil
}

func isDNSName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return false
		}
	}
	return true
}

// hostForVerify returns a host that a certificate with this name, which may be
// a wildcard, must be valid for.
func hostForVerify(name string) string {
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return "any." + rest
	}
	return name
}
