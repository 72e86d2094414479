// Package demopage is a page that talks to a route from a browser: it connects,
// sends lines of JSON, shows what comes back and how long that took.
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

// policy lets the page load and reach what is on its own server, and nothing
// else: no inline script or style, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at a URL path, with and without a slash after it, and
// hands every other request to site; without a site those are 404.
//
// The page offers the given paths of routes to choose from; it takes any other,
// too. Anyone can read it: name no route there whose existence is a secret.
func Handler(at string, routes []string, site http.Handler) http.Handler {
	if site == nil {
		site = http.NotFoundHandler()
	}
	var html bytes.Buffer
	if err := page.Execute(&html, struct{ Routes []string }{routes}); err != nil {
		panic("demopage: " + err.Error()) // a fault of the page, which the tests would find
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
		case !ok: // the page's own address has the slash
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
	h.Set("Cache-Control", "no-cache") // a new binary may bring a new page
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
