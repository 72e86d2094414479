package units_test

import (
	"testing"
	"time"

	"adit/internal/units"
)

func TestSizes(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{units.Binary(0), "0 B"},
		{units.Binary(1023), "1023 B"},
		{units.Binary(1024), "1.0 KiB"},
		{units.Binary(8 << 20), "8.0 MiB"},
		{units.Binary(9 << 30), "9216.0 MiB"},
		{units.Binary(10 << 30), "10.0 GiB"},
		{units.Decimal(0), "0 B"},
		{units.Decimal(999), "999 B"},
		{units.Decimal(999.6), "1.0 kB"},
		{units.Decimal(1234567), "1.2 MB"},
		{units.Decimal(99.96e6), "100 MB"},
		{units.Decimal(1e18), "1000 PB"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func TestDurations(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{units.Short(1234 * time.Nanosecond), "1µs"},
		{units.Short(1250 * time.Microsecond), "1.3ms"},
		{units.Short(2049 * time.Millisecond), "2.05s"},
		{units.Age(-time.Second), "0s"},
		{units.Age(1600 * time.Millisecond), "2s"},
		{units.Age(59*time.Minute + 59*time.Second + 600*time.Millisecond), "1h 0m"},
		{units.Age(100 * time.Second), "1m 40s"},
		{units.Age(76*time.Hour + time.Minute), "3d 4h"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
