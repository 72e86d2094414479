package certs

import "crypto/x509"

// LoadPool loads a PEM file of one or more CA certificates. It may also contain
// certificates that are not CAs, which are then trusted themselves. Errors are
// *Error.
func LoadPool(file string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	return pool, AddToPool(pool, file)
}

// AddToPool adds what LoadPool would load to a pool. With an error it adds
// nothing.
func AddToPool(pool *x509.CertPool, file string) error {
	data, err := readFile("CA file", file)
	if err != nil {
		return err
	}
	list, err := parseCerts("CA file", file, data)
	if err != nil {
		return err
	}
	for _, c := range list {
		pool.AddCert(c)
	}
	return nil
}
