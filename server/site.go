package server

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

const defaultPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Welcome</title>
<body style="font: 1.1rem/1.5 system-ui; max-width: 40rem; margin: 15vh auto; padding: 0 1rem">
<h1>Welcome</h1>
<p>This site is under construction.</p>
</body>
</html>
`

// DefaultSite returns a site with a small page at "/" and nothing else.
func DefaultSite() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			notAllowed(w)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, defaultPage)
	})
}

// DirSite serves the files below a directory to GET and HEAD: index.html for a
// folder, never a listing, no dot files except .well-known, and no file that a
// symbolic link leads to outside the directory. Answers carry Last-Modified and a
// strong ETag, so that caches can revalidate and downloads can be resumed; caches
// revalidate HTML each time, other files after five minutes. The directory has to
// exist; if another one replaces it, that one is served. Nothing is held open
// between requests.
func DirSite(dir string) (http.Handler, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	root.Close()
	return dirSite{dirFS(dir)}, nil
}

// dirFS is an fs.FS of the files below a directory, which it opens for each call.
type dirFS string

func (dir dirFS) Open(name string) (fs.File, error) {
	local, err := filepath.Localize(name) // an error if name has the separator of this system
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return os.OpenInRoot(string(dir), local)
}

func (dir dirFS) Stat(name string) (fs.FileInfo, error) {
	local, err := filepath.Localize(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Stat(local)
}

type dirSite struct{ files fs.FS }

func (s dirSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, info, elsewhere, err := s.find(r.URL.Path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		notAllowed(w)
	case elsewhere != "":
		redirect(w, r, elsewhere)
	default:
		serveFile(w, r, f, info)
	}
}

// find opens the file for a URL path. Each file has one canonical URL, that of a
// folder with a slash at its end: elsewhere, if not empty, is the canonical URL
// relative to the requested one.
func (s dirSite) find(urlPath string) (f fs.File, info fs.FileInfo, elsewhere string, err error) {
	name := strings.TrimPrefix(path.Clean("/"+urlPath), "/")
	if name == "" {
		name = "."
	}
	if hidden(name) {
		return nil, nil, "", fs.ErrNotExist
	}
	asFolder := strings.HasSuffix(urlPath, "/")
	if !asFolder {
		if f, info, err = s.open(name); err == nil {
			if path.Base(name) == "index.html" {
				elsewhere = "./"
			}
			return f, info, elsewhere, nil
		}
		// Only the last part: a redirect never leads to another host.
		elsewhere = (&url.URL{Path: path.Base(name) + "/"}).String()
	}
	f, info, err = s.open(path.Join(name, "index.html"))
	return f, info, elsewhere, err
}

// hidden reports whether a path has a part that begins with a dot, except
// .well-known.
func hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." && part != ".well-known" {
			return true
		}
	}
	return false
}

// open opens a regular file. It checks that before, because opening a fifo blocks
// until the other end is opened.
func (s dirSite) open(name string) (fs.File, fs.FileInfo, error) {
	info, err := fs.Stat(s.files, name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fs.ErrNotExist
	}
	f, err := s.files.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, nil, fs.ErrNotExist
	}
	return f, info, nil
}

func serveFile(w http.ResponseWriter, r *http.Request, f fs.File, info fs.FileInfo) {
	content, ok := f.(io.ReadSeeker)
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "max-age=300")
	if ext := path.Ext(info.Name()); ext == ".html" || ext == ".htm" {
		h.Set("Cache-Control", "no-cache")
	}
	// In reproducible images every file has the same time, near 1970, which does
	// not tell versions apart.
	modified := info.ModTime()
	if modified.Unix() <= 1 {
		modified = time.Time{}
	} else {
		h.Set("ETag", fmt.Sprintf(`"%x-%x"`, modified.UnixNano(), info.Size()))
	}
	http.ServeContent(w, r, info.Name(), modified, content)
}

// redirect redirects to a path relative to the requested one.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusMovedPermanently)
}

func notAllowed(w http.ResponseWriter) {
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
}
