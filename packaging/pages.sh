#!/bin/sh
# Writes the manual pages: packaging/pages.sh ADIT DIRECTORY. The program prints those of its
# commands; those of the configuration files are the commented reference files.
set -eu
adit=$1 to=$2
reference=$(dirname "$0")/../docs/reference
mkdir -p "$to/man1" "$to/man5"
"$adit" man >"$to/man1/adit.1"
# The completion for shells lists the commands.
for command in $("$adit" __complete '' 2>/dev/null | sed -n "s/$(printf '\t').*//p"); do
	[ "$command" != help ] || continue
	"$adit" man "$command" >"$to/man1/adit-$command.1"
done
for end in server client; do
	{
		printf '.TH ADIT-%s.TOML 5 "" "%s"\n' "$(echo "$end" | tr '[:lower:]' '[:upper:]')" "$("$adit" version | cut -d ' ' -f 1-2)"
		printf '.SH NAME\nadit\\-%s.toml \\- configuration of adit %s\n.SH DESCRIPTION\n.nf\n' "$end" "$end"
		sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/'/\\\\(aq/g" -e 's/`/\\(ga/g' -e 's/\^/\\(ha/g' -e 's/~/\\(ti/g' -e 's/^\./\\\&./' "$reference/$end.toml"
		printf '.fi\n.SH SEE ALSO\n\\fBadit\\-%s\\fR(1)\n' "$end"
	} >"$to/man5/adit-$end.toml.5"
done
