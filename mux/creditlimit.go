package mux

import "sync/atomic"

// CreditLimit bounds the credit that sessions have granted to their peers and that
// is not revoked: the most bytes that the peers may make this side hold unread. It
// counts for all sessions that share it, and for its parent, if it has one. A nil
// CreditLimit bounds nothing.
type CreditLimit struct {
	limit  int64
	parent *CreditLimit
	used   atomic.Int64
}

// NewCreditLimit returns a limit of so many bytes. parent may be nil.
func NewCreditLimit(limit int64, parent *CreditLimit) *CreditLimit {
	return &CreditLimit{limit: limit, parent: parent}
}

// Used returns how many bytes are granted at present.
func (l *CreditLimit) Used() int64 { return l.used.Load() }

// take takes n bytes, all or none, and reports whether it did.
func (l *CreditLimit) take(n int64) bool {
	if l == nil {
		return true
	}
	if l.used.Add(n) > l.limit || !l.parent.take(n) {
		l.used.Add(-n)
		return false
	}
	return true
}

// give gives back n bytes that were taken.
func (l *CreditLimit) give(n int64) {
	for ; l != nil; l = l.parent {
		l.used.Add(-n)
	}
}
