package certs

import "crypto/x509"

// Leaves is of Source.
func (f *FileSource) Leaves() []*x509.Certificate { return []*x509.Certificate{f.Leaf()} }

// Leaves is of Source: one for each domain that has one.
func (s *ACMESource) Leaves() []*x509.Certificate {
	var leaves []*x509.Certificate
	for _, name := range s.order {
		d := s.domains[name]
		d.mu.Lock()
		if d.leaf != nil {
			leaves = append(leaves, d.leaf)
		}
		d.mu.Unlock()
	}
	return leaves
}

func (d *acmeDomain) keep(leaf *x509.Certificate) {
	d.mu.Lock()
	d.leaf = leaf
	d.mu.Unlock()
}

// Leaves is of Source.
func (s *Static) Leaves() []*x509.Certificate {
	if s.Leaf == nil {
		return nil
	}
	return []*x509.Certificate{s.Leaf}
}
