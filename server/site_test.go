package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// site returns a DirSite of a directory with public and hidden files.
func site(t *testing.T) http.Handler {
	t.Helper()
	outside := t.TempDir()
	dir := filepath.Join(outside, "www")
	for name, text := range map[string]string{
		"../secret":             "secret",
		"index.html":            "<p>home",
		"file.txt":              "0123456789",
		"sub/index.html":        "<p>sub",
		"sub/.hidden":           "secret",
		"bare/file.txt":         "bare",
		"locked/index.html":     "secret",
		"locked/file.txt":       "locked",
		"odd/index.html/x":      "secret",
		".git/config":           "secret",
		".htpasswd":             "secret",
		".well-known/x/y.txt":   "known",
		".well-known/.hidden":   "secret",
		"..data/file":           "secret",
		"with space/index.html": "<p>space",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"escape":               "../secret",
		"absolute":             filepath.Join(outside, "secret"),
		"up":                   "..",
		"inside":               "file.txt",
		"linkdir/index.html":   "../../secret",
		"looping/index.html":   ".",
		"dangling/index.html":  "nothing",
		"locked/sub/data.html": "../file.txt",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, file); err != nil {
			t.Fatal(err)
		}
	}
	if err := mkfifo(filepath.Join(dir, "fifo")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "locked/index.html"), 0); err != nil {
		t.Fatal(err)
	}
	h, err := DirSite(dir)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestDirSite(t *testing.T) {
	h := site(t)
	for _, c := range []struct {
		path   string
		status int
		body   string // part of it
	}{
		{"/", 200, "<p>home"},
		{"/file.txt", 200, "0123456789"},
		{"/inside", 200, "0123456789"},
		{"/sub/", 200, "<p>sub"},
		{"/sub", 301, ""},
		{"/sub/index.html", 301, ""},
		{"/with%20space/", 200, "<p>space"},
		{"/.well-known/x/y.txt", 200, "known"},
		{"/nothing", 404, "404 page not found"},
		{"/bare/file.txt", 200, "bare"},
		{"/bare/", 404, "404 page not found"},
		{"/bare", 404, "404 page not found"},
		{"/locked/file.txt", 200, "locked"},
		{"/odd/", 404, "404 page not found"},
		{"/odd/index.html/", 404, "404 page not found"},
		{"/looping/", 404, "404 page not found"},
		{"/dangling/", 404, "404 page not found"},
		{"/linkdir/", 404, "404 page not found"},
		{"/fifo", 404, "404 page not found"},
		{"/.git/config", 404, "404 page not found"},
		{"/.git/", 404, "404 page not found"},
		{"/.htpasswd", 404, "404 page not found"},
		{"/.well-known/.hidden", 404, "404 page not found"},
		{"/.well-known/", 404, "404 page not found"},
		{"/sub/.hidden", 404, "404 page not found"},
		{"/..data/file", 404, "404 page not found"},
		{"/escape", 404, "404 page not found"},
		{"/absolute", 404, "404 page not found"},
		{"/up/", 404, "404 page not found"},
		{"/up/secret", 404, "404 page not found"},
		{"/../secret", 404, "404 page not found"},
		{"/%2e%2e/secret", 404, "404 page not found"},
		{"/..%2fsecret", 404, "404 page not found"},
		{"/sub/../../secret", 404, "404 page not found"},
		{"/..\\secret", 404, "404 page not found"},
		{"/x\\..\\.git\\config", 404, "404 page not found"}, // a path on Windows
		{"/sub\\file.txt", 404, "404 page not found"},
		{"/file.txt%00", 404, "404 page not found"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if err := setPath(r, c.path); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code != c.status && !(w.Code == 400 && strings.Contains(c.path, "..")) || !strings.Contains(body, c.body) && w.Code != 400 {
			t.Errorf("%s: %d %.60q, want %d with %q", c.path, w.Code, body, c.status, c.body)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("%s: %q", c.path, body)
		}
	}
	// An unreadable index does not turn into a listing. (The superuser can read
	// it.)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/locked/", nil))
	if os.Geteuid() != 0 && w.Code != 404 || strings.Contains(w.Body.String(), "file.txt") {
		t.Errorf("/locked/: %d %q", w.Code, w.Body)
	}
}

// setPath sets a request's path as net/http parses it from a request line.
func setPath(r *http.Request, path string) error {
	u, err := r.URL.Parse("http://gw.test")
	if err != nil {
		return err
	}
	decoded := strings.NewReplacer("%2e", ".", "%2f", "/", "%20", " ", "%00", "\x00").Replace(path)
	u.Path = decoded
	r.URL = u
	return nil
}

func TestDirSiteFields(t *testing.T) {
	h := site(t)
	get := func(fields ...string) *http.Response {
		r := httptest.NewRequest("GET", "/file.txt", nil)
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	full := get()
	modified := full.Header.Get("Last-Modified")
	if full.StatusCode != 200 || modified == "" || !strings.HasPrefix(full.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%s %v", full.Status, full.Header)
	}
	part := get("Range", "bytes=2-4")
	if b, _ := io.ReadAll(part.Body); part.StatusCode != 206 || string(b) != "234" {
		t.Errorf("range: %s %q", part.Status, b)
	}
	if r := get("Range", "bytes=20-"); r.StatusCode != 416 {
		t.Errorf("a range beyond the end: %s", r.Status)
	}
	if r := get("If-Modified-Since", modified); r.StatusCode != 304 {
		t.Errorf("not modified: %s", r.Status)
	}
	if r := get("Range", "bytes=2-4", "If-Range", `"another"`); r.StatusCode != 200 {
		t.Errorf("a range of another version: %s", r.Status)
	}
}

func TestDirSiteMissing(t *testing.T) {
	if _, err := DirSite(filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("a site without a directory")
	}
}

func TestDefaultSite(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
	}{{"GET", "/", 200}, {"HEAD", "/", 200}, {"POST", "/", 405}, {"GET", "/x", 404}, {"POST", "/x", 404}} {
		w := httptest.NewRecorder()
		DefaultSite().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
	}
}
