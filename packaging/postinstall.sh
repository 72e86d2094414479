#!/bin/sh
# Runs after an installation or an upgrade. The arguments are, of dpkg, "configure" and on an upgrade
# the previous version; of rpm, the number of installed versions.
#
# An installation enables and starts nothing, because neither end works without a configuration. An
# upgrade restarts the services that run. If the server's port is the socket unit's, clients migrate
# to the standby meanwhile; if the standby cannot start, new connections wait in the socket's queue.
# If the server does not start again, the standby keeps running.
set -e
systemd=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p') || true
if [ "${systemd:-250}" -lt 250 ]; then
	echo "adit: the units need systemd 250 or newer, and this is $systemd: they do not start without a drop-in, see /usr/share/doc/adit/packages.md" >&2
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
case $1:$2 in
configure:?* | [2-9]:*)
	if systemctl --quiet is-active adit-server.service && systemctl --quiet is-active adit-server.socket; then
		systemctl start adit-server-standby.service || true
	fi
	systemctl try-restart adit-server.service || true
	if systemctl --quiet is-active adit-server.service; then
		systemctl --no-block stop adit-server-standby.service || true
	elif systemctl --quiet is-active adit-server-standby.service; then
		echo "adit-server.service has not started; adit-server-standby.service runs in its place. When it runs again: systemctl stop adit-server-standby" >&2
	fi
	systemctl try-restart 'adit-client@*.service' || true
	;;
esac
