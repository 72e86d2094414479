//go:build !unix

package main

import "time"

// processTime cannot be told on this system.
func processTime() (time.Duration, bool) { return 0, false }
