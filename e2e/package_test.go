//go:build linux

package e2e

import (
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A release is what make dist makes for this machine from the present tree.
type release struct {
	dir                            string
	archive, deb, rpm, sbom, image string
}

// releaseVersion is the version of all releases here.
const releaseVersion = "1.2.3"

// theRelease is made once for all tests. TestMain removes it.
var theRelease struct {
	sync.Once
	release
	err error
}

func removeRelease() {
	if theRelease.dir != "" {
		os.RemoveAll(theRelease.dir)
	}
}

func released(t *testing.T) release {
	t.Helper()
	need(t, "make", "tar", "gzip")
	theRelease.Do(func() {
		if theRelease.dir, theRelease.err = os.MkdirTemp("", "adit-e2e-release-"); theRelease.err == nil {
			theRelease.release, theRelease.err = makeRelease(t, theRelease.dir,
				"make", "--no-print-directory", "-C", repositoryRoot(t), "dist", "DISTDIR="+theRelease.dir, "TARGETS=linux/"+runtime.GOARCH)
		}
	})
	if theRelease.err != nil {
		t.Fatalf("make a release: %v", theRelease.err)
	}
	return theRelease.release
}

// makeRelease runs a command that makes a release in dir.
func makeRelease(t *testing.T, dir string, argv ...string) (release, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	// Do not pass on the MAKEFLAGS of the make that runs these tests.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "VERSION=v"+releaseVersion, "SOURCE_DATE_EPOCH="+commitTime(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		return release{dir: dir}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	r := release{dir: dir}
	for pattern, to := range map[string]*string{"*.tar.gz": &r.archive, "*.deb": &r.deb, "*.rpm": &r.rpm, "*.cdx.json": &r.sbom, "*-image.tar": &r.image} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		if len(found) != 1 {
			return r, fmt.Errorf("there are %d files %s", len(found), pattern)
		}
		*to = found[0]
	}
	return r, nil
}

// commitTime returns the time of the last commit, or a fixed time without git.
func commitTime(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "log", "-1", "--format=%ct")
	cmd.Dir = repositoryRoot(t)
	out, err := cmd.Output()
	if err != nil {
		return "1000000000"
	}
	return strings.TrimSpace(string(out))
}

// TestReleaseIsReproducible makes the release again, in another directory and time zone and with
// another umask, and compares all files: the archive, the packages and the bill of materials.
func TestReleaseIsReproducible(t *testing.T) {
	first := released(t)
	here, tree, again := machine(t), workDir(t), workDir(t)
	here.run(t, "", "sh", "-c", `tar -C "$1" --exclude=./.git --exclude=./dist -cf - . | tar -C "$2" -xf -`, "copy", repositoryRoot(t), tree)
	if _, err := makeRelease(t, again, "sh", "-c",
		`umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8; exec "$1/packaging/dist.sh" "$2" "$3"`, "dist", tree, again, "linux/"+runtime.GOARCH); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(first.dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(again, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) || strings.Count(string(want), "\n") != 5 {
		t.Errorf("the second build has the sums\n%s\nthe first\n%s", got, want)
	}
	here.run(t, "", "sh", "-c", `cd "$1" && sha256sum --quiet --check SHA256SUMS`, "check", again)
}

// TestReleaseArchive unpacks the archive and runs the program in it.
func TestReleaseArchive(t *testing.T) {
	r := released(t)
	here, dir := machine(t), workDir(t)
	here.run(t, "", "tar", "-C", dir, "-xzf", r.archive)
	top := filepath.Join(dir, "adit-"+releaseVersion+"-linux-"+runtime.GOARCH)
	program := filepath.Join(top, "adit")
	if out := here.run(t, "", program, "version"); !strings.HasPrefix(out, "adit v"+releaseVersion+" ") {
		t.Errorf("its version is %q", out)
	}
	for _, name := range []string{"doc/README.md", "doc/reference/server.toml", "man/man1/adit-client.1", "man/man5/adit-server.toml.5",
		"completions/adit.bash", "completions/_adit", "completions/adit.fish", "systemd/adit-server.service", "etc/server.toml"} {
		if info, err := os.Stat(filepath.Join(top, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	binary, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program is not static: it has a segment %v", p.Type)
		}
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	licenses, err := os.ReadFile(filepath.Join(top, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if !strings.Contains(string(licenses), "\n== "+m.Path+" "+m.Version+"\n") {
			t.Errorf("the license of %s is not there", m.Path)
		}
	}
	checkSBOM(t, r.sbom, program, info)
	checkExamples(t, here, program, filepath.Join(top, "etc"))
}

// checkExamples uncomments the shipped configuration, fills in what only an operator knows, and has
// the program check it.
func checkExamples(t *testing.T, here *host, program, etc string) {
	t.Helper()
	alice, dir := newAccount(t, here, "alice"), workDir(t)
	for file, example := range map[string]struct{ environment, fill []string }{
		"server.toml": {nil, []string{
			"sha256:…", alice.hash, "/var/www/html", dir,
			// Keep one of the three ways to get a certificate.
			"\ncert =", "\n#cert =", "\nkey =", "\n#key =", "\nacme-domains =", "\n#acme-domains =",
		}},
		// The token file that it names exists only while the service runs.
		"client.toml": {[]string{"ADIT_TOKEN_FILE=" + alice.tokenFile}, []string{
			"sha256:…", "sha256:" + base64.StdEncoding.EncodeToString(make([]byte, sha256.Size)),
		}},
	} {
		text := regexp.MustCompile(`(?m)^#([a-z-]+ =|\[)`).ReplaceAllString(readFile(t, filepath.Join(etc, file)), "$1")
		if !strings.Contains(text, "\n[[user]]") && !strings.Contains(text, "\nserver =") {
			t.Errorf("%s has no examples", file)
		}
		conf := writeFile(t, dir, file, strings.NewReplacer(example.fill...).Replace(text))
		args := append([]string{"env"}, example.environment...)
		here.run(t, "", append(args, program, strings.TrimSuffix(file, ".toml"), "--config", conf, "--check-config")...)
	}
}

// checkSBOM compares a bill of materials with its program.
func checkSBOM(t *testing.T, sbom, program string, info *buildinfo.BuildInfo) {
	t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	text, err := os.ReadFile(sbom)
	if err != nil {
		t.Fatal(err)
	}
	type component struct {
		Version, PURL string
		Hashes        []struct{ Alg, Content string }
	}
	var doc struct {
		BOMFormat, SpecVersion string
		Metadata               struct{ Component component }
		Components             []component
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatalf("the bill of materials: %v", err)
	}
	c := doc.Metadata.Component
	if doc.BOMFormat != "CycloneDX" || doc.SpecVersion != "1.6" || c.Version != "v"+releaseVersion {
		t.Errorf("it is a %s %s of version %s", doc.BOMFormat, doc.SpecVersion, c.Version)
	}
	if len(c.Hashes) != 1 || c.Hashes[0].Content != hex.EncodeToString(sum[:]) {
		t.Errorf("it is of a program with the hashes %v", c.Hashes)
	}
	var got []string
	for _, c := range doc.Components {
		got = append(got, c.PURL)
	}
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	if !slices.Equal(got, want) {
		t.Errorf("it lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRPM reads the .rpm with rpm. It cannot be installed here.
func TestRPM(t *testing.T) {
	need(t, "rpm")
	r, here := released(t), machine(t)
	query := func(args ...string) string {
		t.Helper()
		return here.run(t, "", append([]string{"rpm", "--query", "--package", r.rpm}, args...)...)
	}
	if got := query("--queryformat", "%{NAME} %{VERSION} %{LICENSE} %{BUILDHOST}"); got != "adit "+releaseVersion+" MIT localhost" {
		t.Errorf("it is %s", got)
	}
	if got := query("--configfiles"); got != "/etc/adit/client.toml\n/etc/adit/server.toml\n/etc/fail2ban/filter.d/adit.conf\n/etc/fail2ban/jail.d/adit.conf\n" {
		t.Errorf("its configuration is\n%s", got)
	}
	files := "\n" + query("--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]")
	for _, line := range []string{
		"-rwxr-xr-x root /usr/bin/adit", "-rw-r--r-- root /usr/lib/systemd/system/adit-server.socket",
		"drwx------ root /etc/adit/server.credentials", "-rw-r--r-- root /usr/share/man/man1/adit-server.1.gz",
		"-rw-r--r-- root /usr/share/zsh/site-functions/_adit", "-rw-r--r-- root /usr/share/licenses/adit/LICENSE",
	} {
		if !strings.Contains(files, "\n"+line+"\n") {
			t.Errorf("there is no %q in%s", line, files)
		}
	}
	if got := query("--requires"); strings.Contains(got, ".so") {
		t.Errorf("it needs libraries:\n%s", got)
	}
	if got := query("--scripts"); !strings.Contains(got, "systemctl daemon-reload") {
		t.Errorf("its scripts are\n%s", got)
	}
	here.run(t, "", "rpm", "--checksig", "--nosignature", r.rpm)
}

// later makes the .deb of a later version with a different default configuration.
func (r release) later(t *testing.T) (deb, version string) {
	t.Helper()
	here, dir := machine(t), workDir(t)
	tree, deb, version := filepath.Join(dir, "tree"), filepath.Join(dir, "later.deb"), "9.0.0-1"
	here.run(t, "", "dpkg-deb", "--raw-extract", r.deb, tree)
	here.run(t, "", "sed", "-i", "s/^Version: .*/Version: "+version+"/", filepath.Join(tree, "DEBIAN/control"))
	here.run(t, "", "sh", "-c", `echo "# of a later version" >>"$1"`, "append", filepath.Join(tree, "etc/adit/server.toml"))
	here.run(t, "", "dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb)
	return deb, version
}

// TestMakeInstall checks where make install installs files.
func TestMakeInstall(t *testing.T) {
	need(t, "make")
	stage := workDir(t)
	machine(t).run(t, "", "make", "--no-print-directory", "-C", repositoryRoot(t), "install", "DESTDIR="+stage, "PREFIX=/opt/adit", "BINARY="+aditBin)
	for _, name := range []string{"bin/adit", "lib/systemd/system/adit-server.socket", "share/man/man1/adit.1", "share/man/man5/adit-client.toml.5",
		"share/bash-completion/completions/adit", "share/zsh/site-functions/_adit", "share/fish/vendor_completions.d/adit.fish"} {
		if info, err := os.Stat(filepath.Join(stage, "opt/adit", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, unit := range []string{"adit-server.service", "adit-server-standby.service", "adit-client@.service"} {
		if text := readFile(t, filepath.Join(stage, "opt/adit/lib/systemd/system", unit)); !strings.Contains(text, "\nExecStart=/opt/adit/bin/adit ") {
			t.Errorf("%s does not start the program that is installed", unit)
		}
	}
}

// repositoryRoot returns the directory of go.mod.
func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
