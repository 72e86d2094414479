package certs

import (
	"errors"
	"strings"
	"testing"
)

func TestPin(t *testing.T) {
	c, err := Ephemeral(nil)
	if err != nil {
		t.Fatal(err)
	}
	pin := PinOf(c.Leaf)
	text := pin.String()
	for _, s := range []string{text, strings.TrimRight(text, "="), strings.Replace(text, "sha256:", "sha256//", 1)} {
		if got, err := ParsePin(s); err != nil || got != pin {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	m := &PinMismatchError{Got: pin, Want: []Pin{{}, {1}}}
	var target *PinMismatchError
	if !errors.As(error(m), &target) || strings.Count(m.Error(), "sha256:") != 3 {
		t.Error(m)
	}
	hinted(t, m, text)
}

func TestPinFaults(t *testing.T) {
	good := Pin{1}.String()
	for in, want := range map[string]string{
		"":                                     "does not start",
		good[7:]:                               "does not start",
		"sha1:" + good[7:]:                     "does not start",
		"SHA256:" + good[7:]:                   "does not start",
		good[:39]:                              "bytes, not 32",
		good + "=":                             "not base64",
		good[:len(good)-2] + "B=":              "not base64", // trailing bits are not zero
		good[:20] + "\n" + good[20:]:           "not base64",
		"sha256:AB:CD":                         "not base64",
		"sha256:" + strings.Repeat("ab", 32):   "bytes, not 32", // hexadecimal
		"sha256:" + strings.Repeat("A", 10000): "bytes, not 32",
	} {
		_, err := ParsePin(in)
		hinted(t, err, want)
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("%d bytes of error", len(err.Error()))
		}
	}
}

func FuzzParsePin(f *testing.F) {
	f.Add(Pin{1}.String())
	f.Add("sha256//" + Pin{2}.String()[7:])
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePin(s)
		if err != nil {
			hinted(t, err, "")
			return
		}
		if again, err := ParsePin(p.String()); err != nil || again != p {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
