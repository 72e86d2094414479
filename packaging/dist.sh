#!/bin/sh
# Builds a release: per target an archive with the program, manual pages and completions, and a
# software bill of materials; for Linux also a .deb, an .rpm and a container image; then SHA256SUMS.
#
#   packaging/dist.sh DIRECTORY [GOOS/GOARCH …]        default: all targets
#
# The build is reproducible: the same commit and the same Go give the same bytes, whatever the
# machine, the time and the user. The image also contains the CA certificates of CA_BUNDLE, by default
# Debian's. VERSION and SOURCE_DATE_EPOCH come from git, or without git from the environment.
#
# Needs Go, GNU tar, gzip, sha256sum, and zip for the target windows.
set -eu

# Newer versions of nfpm build Windows packages with a library that not every Go module proxy has.
NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
TARGETS='linux/amd64 linux/arm64 linux/arm darwin/amd64 darwin/arm64 windows/amd64'

fail() {
	echo "dist.sh: $*" >&2
	exit 1
}

[ $# -gt 0 ] || fail "name a directory: packaging/dist.sh dist"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- $TARGETS
cd "$(dirname "$0")/.."

GO=${GO:-go}
VERSION=${VERSION:-$(git describe --tags --always --dirty)} || fail "not a git repository: set VERSION"
[ -n "$VERSION" ] || fail "the version is unknown: set VERSION"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} || fail "set SOURCE_DATE_EPOCH, in seconds"
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

# Converts the version to one that packages sort correctly: v1.2.3 to 1.2.3, v1.2.3-rc1 to
# 1.2.3~rc1 (older), v1.2.3-4-g25608b5 to 1.2.3+4.g25608b5 (newer), and the hash of a commit before
# the first release to 0~TIME.HASH.
package_version() {
	v=${VERSION#v}
	dirty=
	case $v in
	*-dirty) v=${v%-dirty} dirty=+dirty ;;
	esac
	case $v in
	[0-9]*.*-*-g*)
		hash=${v##*-} v=${v%-*}
		v=${v%-*}+${v##*-}.$hash
		;;
	[0-9]*.*) ;;
	*) v=0~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M).$v ;;
	esac
	echo "$v$dirty" | sed 's/-/~/'
}

# Fixed settings, so that the builder's environment does not change the binary.
build() {
	env GOOS="$1" GOARCH="$2" GOAMD64=v1 GOARM=7 GOARM64=v8.0 GOFLAGS= GOEXPERIMENT= CGO_ENABLED=0 \
		"$GO" build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o "$3" ./cmd/adit
}

# Prints the licenses of everything in the binary, which must be distributed with it.
licenses() {
	cat LICENSE
	printf '\n== The Go standard library\n\n'
	cat "$("$GO" env GOROOT)/LICENSE"
	env GOOS="$1" GOARCH="$2" CGO_ENABLED=0 "$GO" list -deps \
		-f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/adit |
		sort -u | while read -r module version dir; do
		printf '\n== %s %s\n\n' "$module" "$version"
		cat "$dir"/LICENSE* || fail "$module has no license"
	done
}

# Copies everything that a package installs to a directory, except the program and the licenses,
# which differ between systems.
stage() {
	native=$work/native
	[ -e "$native" ] || env -u GOOS -u GOARCH GOFLAGS= CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false \
		-ldflags "-X main.version=$VERSION" -o "$native" ./cmd/adit
	mkdir -p "$1/completions" "$1/systemd" "$1/etc"
	sh packaging/pages.sh "$native" "$1/man"
	"$native" completion bash >"$1/completions/adit.bash"
	"$native" completion zsh >"$1/completions/_adit"
	"$native" completion fish >"$1/completions/adit.fish"
	cp systemd/*.service systemd/*.socket "$1/systemd"
	cp -r docs "$1/doc"
	for page in README CHANGELOG CONTRIBUTING; do # the documents are in the same directory here
		sed 's#](docs/#](#g; s#](SECURITY.md#](security.md#g' "$page.md" >"$1/doc/$page.md"
	done
	cp packaging/etc/*.toml "$1/etc"
	cp -r packaging/fail2ban "$1"
}

# Gives every file of a tree the commit's time and modes that do not depend on the umask.
settle() {
	find "$1" -exec chmod u=rwX,go=rX {} + -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

archive() { # GOOS NAME; the tree is $work/NAME
	settle "$work/$2"
	if [ "$1" = windows ]; then
		rm -f "$out/$2.zip"
		(cd "$work" && find "$2" | sort | zip -q -X -9 "$out/$2.zip" -@)
	else
		tar -C "$work" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner -cf - "$2" |
			gzip -n -9 >"$out/$2.tar.gz"
	fi
}

package() { # GOARCH; the tree is $work/package
	settle "$work/package"
	arch=$1
	[ "$arch" != arm ] || arch=arm7
	sed -e "s,@STAGE@,$work/package,; s,@ARCH@,$arch,; s,@VERSION@,$(package_version)," \
		packaging/nfpm.yaml >"$work/nfpm.yaml"
	for format in deb rpm; do
		env -u GOOS -u GOARCH GOFLAGS= "$GO" run "$NFPM" package --config "$work/nfpm.yaml" --packager "$format" --target "$out/" >"$work/log" ||
			fail "nfpm: $(cat "$work/log")"
	done
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
touch "$work/began"
umask 022
for target; do
	os=${target%/*} arch=${target#*/}
	name=adit-${VERSION#v}-$os-$arch
	echo "$name"
	tree=$work/$name
	stage "$tree"
	program=adit
	[ "$os" != windows ] || program=adit.exe
	build "$os" "$arch" "$tree/$program"
	licenses "$os" "$arch" >"$tree/LICENSE"
	date=$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
	env -u GOOS -u GOARCH "$GO" run ./packaging/sbom -version "$VERSION" -date "$date" \
		"$tree/$program" >"$out/$name.cdx.json"
	if [ "$os" = linux ]; then
		rm -rf "$work/package"
		cp -r "$tree" "$work/package"
		sed -i 's,/usr/local/bin/,/usr/bin/,' "$work/package/systemd/"*
		gzip -n -9 "$work/package/man/"*/* "$work/package/doc/CHANGELOG.md"
		package "$arch"
		env -u GOOS -u GOARCH "$GO" run ./packaging/image -arch "$arch" -version "$VERSION" -date "$date" \
			-ca "${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}" "$tree/$program" >"$out/$name-image.tar"
	else
		rm -r "$tree/systemd" "$tree/etc" "$tree/fail2ban"
	fi
	archive "$os" "$name"
	rm -rf "$tree"
done
cd "$out"
rm -f SHA256SUMS
find . -maxdepth 1 -type f -newer "$work/began" | sort | sed 's,^./,,' | xargs -d '\n' sha256sum -- >"$work/sums"
mv "$work/sums" SHA256SUMS
