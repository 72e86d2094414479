// Command sbom prints a software bill of materials of a Go binary as CycloneDX 1.6 JSON. It lists the
// modules that the linker recorded in the binary, not those that only go.mod names.
//
//	go run ./packaging/sbom -version 1.2.3 -date 2026-01-02T03:04:05Z dist/adit
//
// The output depends only on the binary and the arguments.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

type document struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp  string     `json:"timestamp"`
	Component  component  `json:"component"`
	Properties []property `json:"properties"`
}

type component struct {
	Ref     string `json:"bom-ref"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Hashes  []hash `json:"hashes,omitempty"`
	PURL    string `json:"purl,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func main() {
	version := flag.String("version", "", "version of the binary")
	date := flag.String("date", "", "date of the document (RFC 3339)")
	flag.Parse()
	if err := run(flag.Arg(0), *version, *date); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(binary, version, date string) error {
	if binary == "" || version == "" || date == "" {
		return errors.New("usage: sbom -version VERSION -date DATE BINARY")
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the binary: %w", err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the build information: %w", err)
	}
	sum := sha256.Sum256(content)
	doc := document{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{Timestamp: date, Component: component{
			Ref: "adit", Type: "application", Name: filepath.Base(info.Path), Version: version,
			Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
		}},
		Components: []component{module("std", strings.TrimPrefix(info.GoVersion, "go"), "")},
	}
	for _, s := range info.Settings {
		doc.Metadata.Properties = append(doc.Metadata.Properties, property{"go:build:" + s.Key, s.Value})
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		doc.Components = append(doc.Components, module(m.Path, m.Version, m.Sum))
	}
	refs := make([]string, 0, len(doc.Components))
	for _, c := range doc.Components {
		refs = append(refs, c.Ref)
	}
	doc.Dependencies = []dependency{{"adit", refs}}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(doc)
}

// module returns the component of a module. sum is as in go.sum: a SHA-256 of the module's files.
func module(path, version, sum string) component {
	c := component{Type: "library", Name: path, Version: version, PURL: "pkg:golang/" + path + "@" + version}
	c.Ref = c.PURL
	if digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:")); err == nil && len(digest) == sha256.Size {
		c.Hashes = []hash{{"SHA-256", hex.EncodeToString(digest)}}
	}
	return c
}
