package auth

import (
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// What somebody was known by stays good for exactly as long as the user has it.
func TestProof(t *testing.T) {
	password := bcryptHash(t, "p", bcrypt.MinCost)
	before, err := NewUsers([]User{
		{Name: "alice", TokenHash: HashToken("a"), CertName: "a@x"},
		{Name: "bob", CertName: "b@x"},
		{Name: "carol", TokenHash: password},
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
		"as it was":               {"alice", Credentials{Authorization: "Bearer a"}, []User{{Name: "alice", TokenHash: HashToken("a")}}, true},
		"Basic with the token":    {"alice", Credentials{Authorization: "Basic YWxpY2U6YQ=="}, []User{{Name: "alice", TokenHash: HashToken("a")}}, true},
		"another token":           {"alice", Credentials{Authorization: "Bearer a"}, []User{{Name: "alice", TokenHash: HashToken("b"), CertName: "a@x"}}, false},
		"another certificate":     {"alice", Credentials{CertNames: []string{"a@x"}}, []User{{Name: "alice", TokenHash: HashToken("a"), CertName: "b@x"}}, false},
		"the other one is gone":   {"alice", Credentials{CertNames: []string{"no", "a@x"}}, []User{{Name: "alice", CertName: "a@x"}}, true},
		"of both it is the token": {"alice", Credentials{Authorization: "Bearer a", CertNames: []string{"a@x"}}, []User{{Name: "alice", CertName: "a@x"}}, false},
		"nobody's any more":       {"alice", Credentials{Authorization: "Bearer a"}, nil, false},
		"somebody else's now":     {"alice", Credentials{Authorization: "Bearer a"}, []User{{Name: "alice", CertName: "a@x"}, {Name: "bob", TokenHash: HashToken("a")}}, false},
		"a password":              {"carol", Credentials{Authorization: "Basic Y2Fyb2w6cA=="}, []User{{Name: "carol", TokenHash: password}}, true},
		"another password":        {"carol", Credentials{Authorization: "Basic Y2Fyb2w6cA=="}, []User{{Name: "carol", TokenHash: bcryptHash(t, "q", bcrypt.MinCost)}}, false},
		"no secret":               {"bob", Credentials{CertNames: []string{"b@x"}}, []User{{Name: "bob", TokenHash: HashToken("b@x")}}, false},
	} {
		identity, err := before.Authenticate(c.by)
		if err != nil || identity.Name != c.user {
			t.Fatalf("%s: %v, %v", name, identity, err)
		}
		proof := before.Proof(identity, c.by)
		if before.Proved(c.user, proof) != identity {
			t.Errorf("%s: not good when it was used", name)
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
		t.Error("nothing proves something")
	}
}
