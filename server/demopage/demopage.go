// Package demopage serves a web page for trying routes in a browser: it connects
// to a route, sends lines of JSON, and shows the answers and how long each took.
package demopage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS []byte

//go:embed page.js
var pageJS []byte

//go:embed page.svg
var pageSVG []byte

var page = template.Must(template.New("page").Parse(pageHTML))

// policy restricts the page to its own server, without inline scripts and styles,
// and forbids frames around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at a URL path, with and without a slash at its end, and
// passes every other request to site. Without a site they get 404.
//
// The page offers the given paths of routes to choose from; the user may type any
// other. Anyone can read the page: do not list a route whose existence is secret.
func Handler(at string, routes []string, site http.Handler) http.Handler {
	if site == nil {
		site = http.NotFoundHandler()
	}
	var html bytes.Buffer
	if err := page.Execute(&html, struct{ Routes []string }{routes}); err != nil {
		panic("demopage: " + err.Error()) // the tests execute the template
	}
	at = path.Clean("/" + at)
	folder := strings.TrimSuffix(at, "/") + "/"
	files := map[string]file{
		folder:              newFile("text/html; charset=utf-8", html.Bytes()),
		folder + "page.css": newFile("text/css; charset=utf-8", pageCSS),
		folder + "page.js":  newFile("text/javascript; charset=utf-8", pageJS),
		folder + "page.svg": newFile("image/svg+xml", pageSVG),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		switch {
		case !ok && r.URL.Path != at:
			site.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
		case !ok: // the canonical URL has the slash
			w.Header().Set("Location", (&url.URL{Path: path.Base(at) + "/", RawQuery: r.URL.RawQuery}).String())
			w.WriteHeader(http.StatusMovedPermanently)
		default:
			f.serve(w, r)
		}
	})
}

type file struct {
	contentType, etag string
	content           []byte
}

func newFile(contentType string, content []byte) file {
	sum := sha256.Sum256(content)
	return file{contentType, `"` + hex.EncodeToString(sum[:8]) + `"`, content}
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache") // a new version of adit may have a new page
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
