// Command image writes a container image of one static program, as an archive
// for docker load and podman load:
//
//	image -arch amd64 -version v1.2.3 -date 2026-11-22T10:00:00Z -ca BUNDLE PROGRAM >adit.tar
//
// The image equals the Dockerfile's, but needs no container builder. It contains
// nothing of the building machine except the CA certificates, so the same files
// give the same bytes. The archive is an OCI image layout (image-spec 1.1), plus
// the manifest.json of `docker save` for docker before version 25.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"time"
)

// user is the UID and GID that the program runs as; no account has it.
const user = 65532

func main() {
	var o options
	flag.StringVar(&o.arch, "arch", "amd64", "the program's GOARCH; arm is v7")
	flag.StringVar(&o.version, "version", "", "the program's version")
	date := flag.String("date", "", "creation date of the image (RFC 3339)")
	ca := flag.String("ca", "/etc/ssl/certs/ca-certificates.crt", "CA certificates that the image trusts (PEM)")
	flag.Parse()
	err := func() (err error) {
		if flag.NArg() != 1 || o.version == "" {
			return fmt.Errorf("usage: image -arch ARCH -version VERSION -date DATE [-ca FILE] PROGRAM")
		}
		if o.date, err = time.Parse(time.RFC3339, *date); err != nil {
			return err
		}
		if o.program, err = os.ReadFile(flag.Arg(0)); err != nil {
			return err
		}
		if o.ca, err = os.ReadFile(*ca); err != nil {
			return err
		}
		return write(os.Stdout, o)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

type options struct {
	arch, version string
	date          time.Time
	program, ca   []byte
}

// blob is a file of the image layout, named by its digest.
type blob struct {
	MediaType string            `json:"mediaType"`
	Digest    string            `json:"digest"`
	Size      int               `json:"size"`
	Platform  *platform         `json:"platform,omitempty"`
	Notes     map[string]string `json:"annotations,omitempty"`
	data      []byte
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

func newBlob(mediaType string, data []byte) *blob {
	return &blob{MediaType: mediaType, Digest: "sha256:" + digest(data), Size: len(data), data: data}
}

func digest(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }

func (b *blob) path() string { return "blobs/sha256/" + b.Digest[len("sha256:"):] }

const oci = "application/vnd.oci.image."

// write writes the image.
func write(w io.Writer, o options) error {
	files, err := layer(o)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	zip.Write(files)
	if err := zip.Close(); err != nil {
		return err
	}
	content := newBlob(oci+"layer.v1.tar+gzip", packed.Bytes())
	p := &platform{Architecture: o.arch, OS: "linux"}
	if o.arch == "arm" {
		p.Variant = "v7"
	}
	created := o.date.UTC().Format(time.RFC3339)
	config := newBlob(oci+"config.v1+json", object(map[string]any{
		"created": created, "architecture": p.Architecture, "os": p.OS, "variant": p.Variant,
		"config": map[string]any{
			"User":         fmt.Sprintf("%d:%d", user, user),
			"ExposedPorts": map[string]any{"443/tcp": struct{}{}},
			"Entrypoint":   []string{"/adit"},
			"Cmd":          []string{"help"},
			"Labels":       map[string]string{"org.opencontainers.image.version": o.version},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(files)}},
		"history": []any{map[string]string{"created": created, "created_by": "adit " + o.version}},
	}))
	manifest := newBlob(oci+"manifest.v1+json", object(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": []*blob{content},
	}))
	name := "adit:" + o.version
	entry := *manifest
	entry.Platform = p
	entry.Notes = map[string]string{"org.opencontainers.image.ref.name": o.version, "io.containerd.image.name": "localhost/" + name}
	index := object(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": []*blob{&entry},
	})
	docker := object([]any{map[string]any{
		"Config": config.path(), "RepoTags": []string{"localhost/" + name}, "Layers": []string{content.path()},
	}})
	t := archive{tar.NewWriter(w), o.date}
	t.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644, 0)
	t.add("index.json", index, 0o644, 0)
	t.add("manifest.json", docker, 0o644, 0)
	for _, b := range []*blob{config, manifest, content} {
		t.add(b.path(), b.data, 0o644, 0)
	}
	return t.w.Close()
}

// layer returns the image's file system as a tar archive.
func layer(o options) ([]byte, error) {
	var b bytes.Buffer
	t := archive{tar.NewWriter(&b), o.date}
	for _, dir := range []string{"etc", "etc/ssl", "etc/ssl/certs", "var", "var/lib"} {
		t.add(dir+"/", nil, 0o755, 0)
	}
	t.add("tmp/", nil, 0o1777, 0)
	t.add("var/lib/adit/", nil, 0o755, user)
	t.add("etc/ssl/certs/ca-certificates.crt", o.ca, 0o644, 0)
	t.add("adit", o.program, 0o755, 0)
	return b.Bytes(), t.w.Close()
}

// archive writes a tar archive. The tar.Writer keeps its first error, which its
// Close returns.
type archive struct {
	w    *tar.Writer
	date time.Time
}

// add appends a file, or a directory if the name ends in a slash.
func (t archive) add(name string, data []byte, mode int64, owner int) {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: path.Clean(name), Mode: mode, Size: int64(len(data)),
		Uid: owner, Gid: owner, ModTime: t.date.UTC().Truncate(time.Second), Format: tar.FormatUSTAR,
	}
	if name[len(name)-1] == '/' {
		h.Typeflag, h.Name = tar.TypeDir, name
	}
	if t.w.WriteHeader(h) == nil {
		t.w.Write(data)
	}
}

func object(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // impossible: v contains only strings, numbers, maps and slices
	}
	return b
}
