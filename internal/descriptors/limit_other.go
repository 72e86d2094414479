//go:build !unix

package descriptors

// limit returns 0: this system has no limit that a process could reach.
func limit() int { return 0 }

func lowestFree() int { return 0 }
