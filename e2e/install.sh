#!/bin/sh
# Installs the missing Debian packages that the end-to-end tests need (packages.txt, one name per
# line). Needs root or sudo. No installed service is started: the tests run every program
# themselves, with configurations of their own.
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

# invoke-rc.d runs this file before it starts a service; exit status 101 forbids the start. An
# existing file is restored afterwards.
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

# Package lists are often fresh enough; they are fetched only if the installation fails.
if ! install; then
	if ! { $sudo apt-get -qq update && install; }; then
		cat "$log" >&2
		echo "e2e/install.sh: could not install:$missing" >&2
		exit 1
	fi
fi
echo "e2e/install.sh: installed$missing"
