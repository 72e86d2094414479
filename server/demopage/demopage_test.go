package demopage

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(h http.Handler, method, target string, fields ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHandler(t *testing.T) {
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	console := Handler("/console", nil, site)
	atRoot := Handler("/", nil, site)
	for _, c := range []struct {
		h              http.Handler
		method, target string
		status         int
		field, value   string
	}{
		{console, "GET", "/console", 301, "Location", "console/"},
		{console, "GET", "/console?a", 301, "Location", "console/?a"},
		{console, "GET", "/console/", 200, "Content-Type", "text/html; charset=utf-8"},
		{console, "HEAD", "/console/", 200, "Content-Type", "text/html; charset=utf-8"},
		{console, "GET", "/console/page.css", 200, "Content-Type", "text/css; charset=utf-8"},
		{console, "GET", "/console/page.js", 200, "Content-Type", "text/javascript; charset=utf-8"},
		{console, "GET", "/console/page.svg", 200, "Content-Type", "image/svg+xml"},
		{console, "POST", "/console/", 405, "Allow", "GET, HEAD"},
		{console, "GET", "/", 418, "", ""},
		{console, "GET", "/consoles", 418, "", ""},
		{console, "GET", "/console/other", 418, "", ""},
		{console, "GET", "/page.js", 418, "", ""},
		{atRoot, "GET", "/", 200, "", ""},
		{atRoot, "GET", "/page.js", 200, "", ""},
		{atRoot, "GET", "/other", 418, "", ""},
		{Handler("/a/b/", nil, nil), "GET", "/a/b", 301, "Location", "b/"},
		{Handler("/a/b/", nil, nil), "GET", "/a/", 404, "", ""},
		{Handler("console", nil, nil), "GET", "/console/", 200, "", ""},
	} {
		r := ask(c.h, c.method, c.target)
		if r.StatusCode != c.status || r.Header.Get(c.field) != c.value {
			t.Errorf("%s %s: %s, %s %q; want %d and %q", c.method, c.target, r.Status, c.field, r.Header.Get(c.field), c.status, c.value)
		}
	}
	etag := ask(console, "GET", "/console/page.js").Header.Get("ETag")
	if r := ask(console, "GET", "/console/page.js", "If-None-Match", etag); etag == "" || r.StatusCode != 304 {
		t.Errorf("the same again: %s, ETag %q", r.Status, etag)
	}
}

// A route's name is escaped.
func TestRoutes(t *testing.T) {
	html := body(t, ask(Handler("/c", []string{"/json", `/<script>"&`}, nil), "GET", "/c/"))
	if !strings.Contains(html, ">/json</button>") || !strings.Contains(html, "&lt;script&gt;") || strings.Count(html, "<script") != 1 {
		t.Error(html)
	}
}

// The page needs nothing that its policy forbids, and the policy allows no other
// host.
func TestPolicy(t *testing.T) {
	r := ask(Handler("/c", []string{"/json"}, nil), "GET", "/c/")
	csp := r.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; ") || regexp.MustCompile(`unsafe|\*|http|data:`).MatchString(csp) {
		t.Errorf("policy %q", csp)
	}
	html := body(t, r)
	for what, pattern := range map[string]string{
		"a script in it":   `<script[^>]*>[^<]`,
		"a style in it":    `<style|\sstyle=`,
		"an event handler": `\son\w+=`,
		"another server":   `https?:|//`,
	} {
		if found := regexp.MustCompile(pattern).FindString(html); found != "" {
			t.Errorf("the page has %s: %q", what, found)
		}
	}
	if found := regexp.MustCompile(`url\(|@import|https?:`).FindString(string(pageCSS)); found != "" {
		t.Errorf("the style sheet loads %q", found)
	}
	// Data of a backend is shown as text, never as HTML.
	if found := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://`).FindString(string(pageJS)); found != "" {
		t.Errorf("the script has %q", found)
	}
}

// Every field of the page has a label, and every reference a target.
func TestAccessible(t *testing.T) {
	html := body(t, ask(Handler("/c", []string{"/json"}, nil), "GET", "/c/"))
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		if ids[m[1]] {
			t.Errorf("two elements are %q", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`\s(?:for|aria-labelledby|aria-describedby)="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		for _, id := range strings.Fields(m[1]) {
			if !ids[id] {
				t.Errorf("nothing is %q", id)
			}
		}
	}
	for _, m := range regexp.MustCompile(`<(?:input|textarea) id="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		if !strings.Contains(html, `for="`+m[1]+`"`) {
			t.Errorf("the field %q has no label", m[1])
		}
	}
	for _, want := range []string{`lang="en"`, "<title>", `name="viewport"`, `role="status"`, `role="log"`, `role="alert"`} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if !strings.Contains(string(pageCSS), "prefers-color-scheme: dark") || !strings.Contains(string(pageCSS), ":focus-visible") {
		t.Error("the style sheet lacks the dark colors or the focus")
	}
}

// Every element that the script uses exists.
func TestScriptFindsElements(t *testing.T) {
	html := body(t, ask(Handler("/c", nil, nil), "GET", "/c/"))
	names := regexp.MustCompile(`\$\("(\w+)"\)`).FindAllStringSubmatch(string(pageJS), -1)
	bunch := regexp.MustCompile(`\[((?:"\w+",? ?)+)\]\.map\(\$\)`).FindStringSubmatch(string(pageJS))
	if bunch == nil {
		t.Fatal("the script no longer looks elements up in one place")
	}
	names = append(names, regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(bunch[1], -1)...)
	for _, name := range names {
		if !strings.Contains(html, `id="`+name[1]+`"`) {
			t.Errorf("the script looks for %q", name[1])
		}
	}
}
