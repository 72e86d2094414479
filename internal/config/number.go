package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseInt makes a parser of whole numbers within bounds.
func parseInt(low, high int) func(string) (int, error) {
	hint := fmt.Sprintf("write a whole number between %d and %d", low, high)
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, bad(hint, "%q is not a number", s)
		}
		if n < low || n > high {
			return 0, bad(hint, "%d is out of range", n)
		}
		return n, nil
	}
}

// numbersBetween is how the reference writes the bounds of a number.
func numbersBetween(low, high int) string { return fmt.Sprintf("from %d to %d", low, high) }

// units are the units of sizes, in bytes.
var units = map[string]int64{
	"": 1 << 20, "b": 1, "k": 1 << 10, "kib": 1 << 10, "kb": 1e3, "m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9, "t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// ParseMebibytes reads a size and returns it in MiB, rounded up: a number with a
// unit such as 512MiB, 1.5 GiB or 1G, or a number of MiB. low and high are its
// bounds in MiB.
func ParseMebibytes(s string, low, high int) (int, error) {
	hint := fmt.Sprintf("write a size between %dMiB and %dMiB, e.g. 512MiB or 1GiB; a number alone is in MiB", low, high)
	digits := strings.TrimRight(s, " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, known := units[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || strings.Trim(digits, "0123456789.") != "" {
		return 0, bad(hint, "%q is not a size", s)
	}
	mib := math.Ceil(n * float64(unit) / (1 << 20))
	if mib < float64(low) || mib > float64(high) {
		return 0, bad(hint, "%s is out of range", s)
	}
	return int(mib), nil
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, bad("write true or false", "%q is neither true nor false", s)
}

// parseDuration makes a parser of durations within bounds.
func parseDuration(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := readDuration(s)
		if err == nil && (d < low || d > high) {
			err = bad("write a duration between "+short(low)+" and "+short(high), "%q is out of range", s)
		}
		if err != nil {
			return 0, err
		}
		return d, nil
	}
}

// orNever is parseDuration, except that 0 is accepted and becomes never.
func orNever(low, high, never time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := readDuration(s)
		switch {
		case err != nil:
			return 0, err
		case d == 0:
			return never, nil
		case d < low || d > high:
			return 0, bad("write a duration between "+short(low)+" and "+short(high)+`, or "0s" for never`, "%q is out of range", s)
		}
		return d, nil
	}
}

func readDuration(s string) (time.Duration, error) {
	const hint = `write a number with a unit, e.g. "30s", "500ms" or "5m"`
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if _, numErr := strconv.ParseFloat(s, 64); numErr == nil {
		return 0, bad(hint, "%q has no unit", s)
	}
	return 0, bad(hint, "%q is not a duration", s)
}

// durationsBetween is how the reference writes the bounds of a duration.
func durationsBetween(low, high time.Duration) string {
	return fmt.Sprintf("from %q to %q", short(low), short(high))
}

// short is Duration.String without the zero units: "24h" for "24h0m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// oneOf makes a parser of a choice; what says what the words name.
func oneOf(what string, choices ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(choices, s) {
			return s, nil
		}
		return "", bad(didYouMean(s, choices, "write "+either(choices)), "%q is not a %s", s, what)
	}
}

// either joins words: "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last <= 0 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
