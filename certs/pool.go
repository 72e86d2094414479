package certs

import "crypto/x509"

// LoadPool reads a PEM file with one or more CA certificates. A certificate
// that is no CA may stand there, too, and is then trusted itself. Errors are
// *Error.
func LoadPool(file string) (*x509.CertPool, error) {
	data, err := readFile("CA file", file)
	if err != nil {
		return nil, err
	}
	list, err := parseCerts("CA file", file, data)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool, nil
}
