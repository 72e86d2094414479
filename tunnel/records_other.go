//go:build !unix

package tunnel

const canReadAhead = false

func (c *recordConn) fetch() error              { return nil }
func (c *recordConn) readAhead(fd uintptr) bool { return true }
