#!/bin/sh
# Runs before a removal ("remove" of dpkg, 0 remaining versions of rpm). An upgrade does nothing here.
set -e
case $1 in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl stop adit-server.socket adit-server-standby.service adit-server.service 'adit-client@*.service' || true
fi
if command -v systemctl >/dev/null; then
	systemctl --quiet disable adit-server.socket adit-server.service adit-client@.service || true
fi
