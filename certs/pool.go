package certs

import "crypto/x509"

// LoadPool loads a PEM file of one or more CA certificates. It may also contain
// certificates that are not CAs, which are then trusted themselves. Errors are
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
