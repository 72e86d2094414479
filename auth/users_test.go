package auth

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func basicAuth(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func bcryptHash(t testing.TB, password string, cost int) string {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNewToken(t *testing.T) {
	a, b := NewToken(), NewToken()
	if a == b || !strings.HasPrefix(a, "adit_") {
		t.Errorf("%q, %q", a, b)
	}
	raw, err := base64.RawURLEncoding.DecodeString(a[len("adit_"):])
	if err != nil || len(raw) != 32 {
		t.Errorf("%q: %d bytes, %v", a, len(raw), err)
	}
	if h := HashToken("abc"); h != "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Error(h)
	}
}

func TestAuthenticate(t *testing.T) {
	token := NewToken()
	long := strings.Repeat("p", 72)
	u, err := NewUsers([]User{
		{Name: "tok", TokenHashes: []string{"sha256:" + strings.ToUpper(HashToken(token)[7:])}, MaxSessions: 3},
		{Name: "pass", TokenHashes: []string{bcryptHash(t, "correct horse", bcrypt.MinCost)}},
		{Name: "apache", TokenHashes: []string{strings.Replace(bcryptHash(t, "y", bcrypt.MinCost+1), "$2a$", "$2y$", 1)}},
		{Name: "long", TokenHashes: []string{bcryptHash(t, long, bcrypt.MinCost)}},
		{Name: "cert", CertName: "c.example"},
	}, WithPasswordLimiter(NewPasswordLimiter(PasswordLimiterOptions{Burst: 1000})))
	if err != nil {
		t.Fatal(err)
	}
	if u.Len() != 5 {
		t.Error(u.Len())
	}
	for _, c := range []struct {
		auth  string
		certs []string
		want  string // name, "" = rejected, "-" = no credentials
	}{
		{"Bearer " + token, nil, "tok"},
		{"bearer  " + token, nil, "tok"},
		{"Bearer " + token + "x", nil, ""},
		{"Bearer " + HashToken(token), nil, ""},
		{"Bearer ", nil, ""},
		{"Bearer correct horse", nil, ""},
		{basicAuth("tok", token), nil, "tok"},
		{strings.TrimRight(basicAuth("tok", token), "="), nil, "tok"},
		{basicAuth("tok", "x"), nil, ""},
		{basicAuth("", token), nil, ""},
		{basicAuth(token, ""), nil, ""},
		{basicAuth("pass", "correct horse"), nil, "pass"},
		{basicAuth("pass", "correct horse:"), nil, ""},
		{basicAuth("pass", ""), nil, ""},
		{basicAuth("PASS", "correct horse"), nil, ""},
		{basicAuth("pass", "y"), nil, ""},
		{basicAuth("apache", "y"), nil, "apache"},
		{basicAuth("long", long), nil, "long"},
		{basicAuth("long", long+"x"), nil, ""}, // bcrypt ignores the 73rd byte
		{basicAuth("cert", ""), nil, ""},
		{basicAuth("nobody", ""), nil, ""},
		{"Basic !", nil, ""},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("nocolon")), nil, ""},
		{"Digest x", nil, ""},
		{"Bearer", nil, ""},
		{strings.Repeat("x", 5000), nil, ""},
		{"", []string{"other", "c.example"}, "cert"},
		{"", []string{"C.example"}, ""},
		{"", []string{""}, ""},
		{"", nil, "-"},
	} {
		id, _, err := u.Authenticate(Credentials{Authorization: c.auth, CertNames: c.certs})
		switch {
		case c.want == "-" && !errors.Is(err, ErrNoCredentials),
			c.want == "" && !errors.Is(err, ErrRejected),
			c.want != "" && c.want != "-" && (err != nil || id.Name != c.want):
			t.Errorf("%.60q %v: got %v, %v, want %q", c.auth, c.certs, id, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "horse")) {
			t.Errorf("secret in the error: %v", err)
		}
	}
	if id, _, _ := u.Authenticate(Credentials{Authorization: "Bearer " + token}); id == nil || id.MaxSessions != 3 {
		t.Errorf("%+v", id)
	}
}

func TestLookup(t *testing.T) {
	u, err := NewUsers([]User{{Name: "a", CertName: "c", Allow: []string{"ssh"}}})
	if err != nil {
		t.Fatal(err)
	}
	if id := u.Lookup("a"); id == nil || id.Policy.AllowTarget("ssh") != nil {
		t.Errorf("%+v", id)
	}
	var none *Users
	if u.Lookup("A") != nil || u.Lookup("") != nil || none.Lookup("a") != nil {
		t.Error("a user that does not exist")
	}
}

// An empty and a nil Users reject everyone.
func TestNoUsersRejectsAll(t *testing.T) {
	empty, err := NewUsers(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []*Users{nil, empty} {
		for _, c := range []Credentials{{Authorization: "Bearer "}, {Authorization: basicAuth("", "")}, {CertNames: []string{""}}} {
			if _, _, err := u.Authenticate(c); !errors.Is(err, ErrRejected) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if _, _, err := u.Authenticate(Credentials{}); !errors.Is(err, ErrNoCredentials) {
			t.Error(err)
		}
		if u.Len() != 0 {
			t.Error(u.Len())
		}
	}
}

func TestNewUsersFaults(t *testing.T) {
	good := HashToken("x")
	pass := bcryptHash(t, "x", bcrypt.MinCost)
	for name, c := range map[string]struct {
		users []User
		want  []string // each a part of one error, in order
	}{
		"empty name":      {[]User{{TokenHashes: []string{good}}}, []string{"user number 1: name: the name is empty"}},
		"colon":           {[]User{{Name: "a:b", TokenHashes: []string{good}}}, []string{"colon"}},
		"control":         {[]User{{Name: "a\nb", TokenHashes: []string{good}}}, []string{"control"}},
		"not UTF-8":       {[]User{{Name: "a\xff", TokenHashes: []string{good}}}, []string{"UTF-8"}},
		"long name":       {[]User{{Name: strings.Repeat("a", 200), TokenHashes: []string{good}}}, []string{"longer"}},
		"duplicate":       {[]User{{Name: "a", TokenHashes: []string{good}}, {Name: "a", CertName: "c"}}, []string{"two users"}},
		"no way in":       {[]User{{Name: "a"}}, []string{`user "a": token-hash: neither`}},
		"same cert":       {[]User{{Name: "a", CertName: "c"}, {Name: "b", CertName: "c"}}, []string{`user "b": cert-name: user "a"`}},
		"same token":      {[]User{{Name: "a", TokenHashes: []string{good}}, {Name: "b", TokenHashes: []string{good}}}, []string{`user "a" has the same token`}},
		"same hash twice": {[]User{{Name: "a", TokenHashes: []string{good, good}}}, []string{"listed twice"}},
		"many hashes":     {[]User{{Name: "a", TokenHashes: nineHashes()}}, []string{"there are 9, more than 8"}},
		"many passwords":  {[]User{{Name: "a", TokenHashes: []string{pass, pass, pass}}}, []string{"more than 2 bcrypt hashes"}},
		"same password":   {[]User{{Name: "a", TokenHashes: []string{pass}}, {Name: "b", TokenHashes: []string{pass}}}, nil},
		"raw token":       {[]User{{Name: "a", TokenHashes: []string{NewToken()}}}, []string{"not its hash"}},
		"short hash":      {[]User{{Name: "a", TokenHashes: []string{good[:20]}}}, []string{"64 hex"}},
		"plain password":  {[]User{{Name: "a", TokenHashes: []string{"hunter2"}}}, []string{"neither"}},
		"broken bcrypt":   {[]User{{Name: "a", TokenHashes: []string{pass[:59]}}}, []string{"malformed bcrypt"}},
		"2x bcrypt":       {[]User{{Name: "a", TokenHashes: []string{"$2x" + pass[3:]}}}, []string{"malformed bcrypt"}},
		"expensive":       {[]User{{Name: "a", TokenHashes: []string{"$2a$31" + pass[6:]}}}, []string{"cost 31"}},
		"negative":        {[]User{{Name: "a", TokenHashes: []string{good}, MaxSessions: -1}}, []string{"negative"}},
		"rules":           {[]User{{Name: "a", TokenHashes: []string{good}, Allow: []string{"*", "ssh", "::1:2"}}}, []string{`allow: rule "*"`, "brackets"}},
		"all of them":     {[]User{{}, {Name: "b", TokenHashes: []string{"x"}, Allow: []string{"?"}}}, []string{"name", "token-hash", "token-hash", "allow"}},
		"bad then repeat": {[]User{{Name: "a", TokenHashes: []string{"x"}}, {Name: "b", TokenHashes: []string{"y"}}}, []string{`"a"`, `"b"`}},
	} {
		u, err := NewUsers(c.users)
		faults := unjoin(err)
		if len(faults) != len(c.want) || (u == nil) != (len(c.want) > 0) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
			continue
		}
		for i, f := range faults {
			var ue *UserError
			if !errors.As(f, &ue) || !strings.Contains(f.Error(), c.want[i]) {
				t.Errorf("%s: got %v, want %q", name, f, c.want[i])
				continue
			}
			hinted(t, f)
			if strings.Contains(f.Error()+ue.Hint(), "hunter2") {
				t.Errorf("%s: secret in %v", name, f)
			}
		}
	}
}

func nineHashes() []string {
	var list []string
	for range 9 {
		list = append(list, HashToken(NewToken()))
	}
	return list
}

// A failure costs as many checks at the highest cost as the user with the most
// passwords needs, whether or not the name exists and whatever kind and number of
// secrets the user has.
func TestFailuresCostTheSame(t *testing.T) {
	const top = 6
	u, err := NewUsers([]User{
		{Name: "cheap", TokenHashes: []string{bcryptHash(t, "p", bcrypt.MinCost)}},
		{Name: "dear", TokenHashes: []string{bcryptHash(t, "p", top)}},
		{Name: "two", TokenHashes: []string{HashToken(NewToken()), bcryptHash(t, "p", bcrypt.MinCost), bcryptHash(t, "q", top)}},
		{Name: "tok", TokenHashes: []string{HashToken(NewToken())}},
		{Name: "cert", CertName: "c"},
	}, WithPasswordLimiter(NewPasswordLimiter(PasswordLimiterOptions{Burst: 1000})))
	if err != nil {
		t.Fatal(err)
	}
	if u.topCost != top {
		t.Fatal(u.topCost)
	}
	work := 0
	defer func() { compare = bcrypt.CompareHashAndPassword }()
	compare = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			t.Error(err)
		}
		work += 1 << cost
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	for _, name := range []string{"cheap", "dear", "two", "tok", "cert", "nobody", ""} {
		for _, password := range []string{"wrong", "", strings.Repeat("p", 100)} {
			work = 0
			if _, _, err := u.Authenticate(Credentials{Authorization: basicAuth(name, password)}); !errors.Is(err, ErrRejected) {
				t.Fatal(err)
			}
			if work != 2<<top {
				t.Errorf("%q: %d units of work, want %d", name, work, 2<<top)
			}
		}
	}
}

// While a token is replaced, the old and the new one log in, and removing the old
// one ends only what it had opened.
func TestTokenRotationCutsNobodyOff(t *testing.T) {
	users := func(hashes ...string) *Users {
		t.Helper()
		u, err := NewUsers([]User{{Name: "alice", TokenHashes: hashes}})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	oldPassword, newPassword := bcryptHash(t, "old password", bcrypt.MinCost), bcryptHash(t, "new password", bcrypt.MinCost)
	both := users(HashToken("old"), HashToken("new"), oldPassword, newPassword)
	after := users(HashToken("new"), newPassword)
	for credential, kept := range map[string]bool{
		"Bearer old": false, basicAuth("alice", "old"): false, basicAuth("alice", "old password"): false,
		"Bearer new": true, basicAuth("alice", "new"): true, basicAuth("alice", "new password"): true,
	} {
		id, proof, err := both.Authenticate(Credentials{Authorization: credential})
		if err != nil || id.Name != "alice" || both.Proved("alice", proof) != id {
			t.Errorf("%s: %v, %v", credential, id, err)
		}
		if (after.Proved("alice", proof) != nil) != kept {
			t.Errorf("%s: still valid after the rotation: %v, want %v", credential, !kept, kept)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	token := NewToken()
	u, err := NewUsers([]User{{Name: "tok", TokenHashes: []string{HashToken(token)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Bearer x", "tok")
	f.Add(basicAuth("tok", "x"), "c")
	f.Add("Basic ====", "")
	f.Fuzz(func(t *testing.T, header, cert string) {
		id, _, err := u.Authenticate(Credentials{Authorization: header, CertNames: []string{cert}, Addr: netip.Addr{}})
		if id != nil || !errors.Is(err, ErrRejected) {
			t.Fatalf("%q: %v, %v", header, id, err)
		}
	})
}

func FuzzTokenHash(f *testing.F) {
	f.Add(HashToken("x"))
	f.Add("$2a$04$" + strings.Repeat("a", 53))
	f.Add("$2y$99$" + strings.Repeat("/", 53))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseHash(text)
		if err != nil {
			hinted(t, err)
			return
		}
		if s.bcrypt == nil && len(text) != len("sha256:")+64 {
			t.Fatalf("took %q", text)
		}
		if s.bcrypt != nil && (s.cost < bcrypt.MinCost || s.cost > maxCost || len(text) != 60) {
			t.Fatalf("took %q at cost %d", text, s.cost)
		}
		if s.bcrypt != nil && s.cost <= bcrypt.MinCost+1 {
			// bcrypt must be able to check an accepted hash; otherwise a failure would be instant.
			if err := bcrypt.CompareHashAndPassword(s.bcrypt, []byte("x")); err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
				t.Fatalf("took %q: %v", text, err)
			}
		}
	})
}
