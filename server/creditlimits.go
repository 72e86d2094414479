package server

import (
	"sync"

	"adit/mux"
)

// creditLimits bound the credit that sessions grant: of each user, and of all.
type creditLimits struct {
	all     *mux.CreditLimit
	perUser int64

	mu    sync.Mutex
	users map[string]*mux.CreditLimit // by name, for the life of the server
}

func newCreditLimits(cfg Config) *creditLimits {
	return &creditLimits{
		all: mux.NewCreditLimit(cfg.StreamMemory, nil), perUser: cfg.UserStreamMemory,
		users: make(map[string]*mux.CreditLimit),
	}
}

// of returns the limit of a user; "" is all anonymous clients.
func (c *creditLimits) of(user string) *mux.CreditLimit {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.users[user]
	if l == nil {
		l = mux.NewCreditLimit(c.perUser, c.all)
		c.users[user] = l
	}
	return l
}
