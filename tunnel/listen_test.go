package tunnel

import "testing"

func TestLocal(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "192.0.2.1": false, "localhost.example": false,
		"127.0.0.1.example": false, "/run/backend.sock": false,
	} {
		if got := Local(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
