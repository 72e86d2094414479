package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDirSiteCaching(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, modified time.Time) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write("index.html", "<p>home", now)
	write("app.js", "let x", now)
	write("old.txt", "same in every image", time.Unix(1, 0))
	h, err := DirSite(dir)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string, fields ...string) *http.Response {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	want := func(what string, r *http.Response, status int, fields map[string]string) {
		t.Helper()
		if r.StatusCode != status {
			t.Errorf("%s: %s, want %d", what, r.Status, status)
		}
		for name, value := range fields {
			if got := r.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", what, name, got, value)
			}
		}
	}

	page := ask("GET", "/")
	tag := page.Header.Get("ETag")
	if len(tag) < 4 || tag[0] != '"' {
		t.Fatalf("ETag is %q, want a strong one", tag)
	}
	want("a page", page, 200, map[string]string{
		"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff",
		"Content-Type": "text/html; charset=utf-8", "Accept-Ranges": "bytes",
	})
	want("a health check", ask("HEAD", "/"), 200, map[string]string{"Content-Length": "7", "ETag": tag})
	want("a script", ask("GET", "/app.js"), 200, map[string]string{
		"Cache-Control": "max-age=300", "Content-Type": "text/javascript; charset=utf-8",
	})
	want("the same page again", ask("GET", "/", "If-None-Match", tag), 304, map[string]string{"ETag": tag})
	want("the rest of the page", ask("GET", "/", "Range", "bytes=3-", "If-Range", tag), 206, map[string]string{"Content-Range": "bytes 3-6/7"})
	want("a missing page", ask("GET", "/nothing"), 404, map[string]string{"ETag": "", "Cache-Control": ""})
	want("a range beyond the end", ask("GET", "/", "Range", "bytes=9-"), 416, map[string]string{"ETag": "", "Cache-Control": ""})
	want("something else than reading", ask("POST", "/"), 405, map[string]string{"Allow": "GET, HEAD", "ETag": ""})
	want("a file without a time", ask("GET", "/old.txt"), 200, map[string]string{"ETag": "", "Last-Modified": ""})
	want("a query on the way to the folder", ask("GET", "/index.html?a=b"), 301, map[string]string{"Location": "./?a=b", "ETag": ""})

	write("index.html", "<p>HOME", now.Add(time.Millisecond))
	want("a changed page of the same size", ask("GET", "/", "If-None-Match", tag), 200, nil)
	want("the rest of what was another page", ask("GET", "/", "Range", "bytes=3-", "If-Range", tag), 200, nil)
}

func TestDirSiteRedirectsStayHere(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"evil.example", "a:b", "sp ace"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "index.html"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h, err := DirSite(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, location := range map[string]string{
		"//evil.example": "evil.example/", "/x/../evil.example": "evil.example/",
		"/a:b": "./a:b/", "/sp%20ace": "sp%20ace/",
	} {
		r := httptest.NewRequest("GET", "http://gw.test"+path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Location"); w.Code != 301 || got != location {
			t.Errorf("%s: %d to %q, want 301 to %q", path, w.Code, got, location)
		}
	}
}
