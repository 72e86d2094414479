package auth

import (
	"encoding/base64"
	"testing"
)

func TestRecognizes(t *testing.T) {
	basic := func(name, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
	}
	token := NewToken()
	u, err := NewUsers([]User{
		{Name: "alice", TokenHashes: []string{HashToken(token)}},
		{Name: "bob", TokenHashes: []string{HashToken("chosen-by-hand")}},
		{Name: "carol", TokenHashes: []string{"$2a$04$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		"Bearer " + token:                true,
		"bearer  " + NewToken() + " ":    true, // of a removed user, perhaps
		"Bearer chosen-by-hand":          true,
		"Bearer eyJhbGciOiJub25lIn0.e.":  false,
		"":                               false,
		"Digest username=carol":          false,
		basic("alice", token):            true,
		basic("nobody", token):           true,
		basic("alice", "chosen-by-hand"): true,
		basic("carol", "wrong"):          true,
		basic("alice", "wrong"):          false,
		basic("site-user", "password"):   false,
		"Basic !":                        false,
	} {
		if got := u.Recognizes(header); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
	if (*Users)(nil).Recognizes("Bearer x") || !(*Users)(nil).Recognizes("Bearer "+token) {
		t.Error("without users")
	}
}
