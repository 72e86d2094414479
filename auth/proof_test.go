package auth

import (
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// A proof is valid exactly as long as the user has the credential.
func TestProof(t *testing.T) {
	password := bcryptHash(t, "p", bcrypt.MinCost)
	before, err := NewUsers([]User{
		{Name: "alice", TokenHashes: []string{HashToken("a")}, CertName: "a@x"},
		{Name: "bob", CertName: "b@x"},
		{Name: "carol", TokenHashes: []string{password}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		user   string
		by     Credentials
		after  []User
		proved bool
	}{
		"unchanged":              {"alice", Credentials{Authorization: "Bearer a"}, []User{{Name: "alice", TokenHashes: []string{HashToken("a")}}}, true},
		"Basic with the token":   {"alice", Credentials{Authorization: "Basic YWxpY2U6YQ=="}, []User{{Name: "alice", TokenHashes: []string{HashToken("a")}}}, true},
		"another token":          {"alice", Credentials{Authorization: "Bearer a"}, []User{{Name: "alice", TokenHashes: []string{HashToken("b")}, CertName: "a@x"}}, false},
		"another certificate":    {"alice", Credentials{CertNames: []string{"a@x"}}, []User{{Name: "alice", TokenHashes: []string{HashToken("a")}, CertName: "b@x"}}, false},
		"token removed":          {"alice", Credentials{CertNames: []string{"no", "a@x"}}, []User{{Name: "alice", CertName: "a@x"}}, true},
		"both: the token counts": {"alice", Credentials{Authorization: "Bearer a", CertNames: []string{"a@x"}}, []User{{Name: "alice", CertName: "a@x"}}, false},
		"user removed":           {"alice", Credentials{Authorization: "Bearer a"}, nil, false},
		"another user's token":   {"alice", Credentials{Authorization: "Bearer a"}, []User{{Name: "alice", CertName: "a@x"}, {Name: "bob", TokenHashes: []string{HashToken("a")}}}, false},
		"a password":             {"carol", Credentials{Authorization: "Basic Y2Fyb2w6cA=="}, []User{{Name: "carol", TokenHashes: []string{password}}}, true},
		"another password":       {"carol", Credentials{Authorization: "Basic Y2Fyb2w6cA=="}, []User{{Name: "carol", TokenHashes: []string{bcryptHash(t, "q", bcrypt.MinCost)}}}, false},
		"no secret":              {"bob", Credentials{CertNames: []string{"b@x"}}, []User{{Name: "bob", TokenHashes: []string{HashToken("b@x")}}}, false},
	} {
		identity, proof, err := before.Authenticate(c.by)
		if err != nil || identity.Name != c.user {
			t.Fatalf("%s: %v, %v", name, identity, err)
		}
		if before.Proved(c.user, proof) != identity {
			t.Errorf("%s: not valid before the reload", name)
		}
		after, err := NewUsers(c.after)
		if err != nil {
			t.Fatal(err)
		}
		now := after.Proved(c.user, proof)
		if (now != nil) != c.proved || now != nil && now.Name != c.user {
			t.Errorf("%s: %v", name, now)
		}
	}
	var none *Users
	if none.Proved("alice", Proof{}) != nil || before.Proved("bob", Proof{}) != nil {
		t.Error("the zero Proof proves a user")
	}
}
