#!/bin/sh
# Installs the Debian packages that the end-to-end tests need and that are not there yet
# (packages.txt, one name a line). Needs root, or sudo. Nothing that it installs is started:
# the tests run every program themselves, with configurations of their own.
set -eu

cd "$(dirname "$0")"

missing=
while read -r name; do
	[ -n "$name" ] || continue
	case $(dpkg-query -W -f '${Status}' "$name" 2>/dev/null || true) in
	"install ok installed") ;;
	*) missing="$missing $name" ;;
	esac
done <packages.txt
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || {
		echo "e2e/install.sh: run as root, or install sudo; missing:$missing" >&2
		exit 1
	}
	sudo=sudo
fi

# invoke-rc.d asks this file before it starts a service; 101 means "forbidden". A file that is
# there already belongs to someone else and is put back.
policy=/usr/sbin/policy-rc.d
kept=
log=$(mktemp)
restore() {
	rm -f "$log"
	if [ -n "$kept" ]; then
		$sudo mv "$kept" "$policy"
	else
		$sudo rm -f "$policy"
	fi
}
if [ -e "$policy" ]; then
	kept=$policy.e2e
	$sudo mv "$policy" "$kept"
fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
$sudo chmod 755 "$policy"

install() {
	# shellcheck disable=SC2086 # a list of words
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
		-o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold \
		install --no-install-recommends $missing >"$log" 2>&1
}

# Package lists are often fresh enough; fetch them only when they prove not to be.
if ! install; then
	if ! { $sudo apt-get -qq update && install; }; then
		cat "$log" >&2
		echo "e2e/install.sh: could not install:$missing" >&2
		exit 1
	fi
fi
echo "e2e/install.sh: installed$missing"
