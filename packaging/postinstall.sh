#!/bin/sh
# After an installation or an upgrade. dpkg says "configure", and at an upgrade the version before;
# rpm says how many versions there are now.
#
# Nothing is enabled or started: without a configuration neither end has anything to do. What ran
# before an upgrade is restarted. If the server has its port from the socket unit, clients go over to a
# second one meanwhile; where that cannot start, the port is kept and they wait. The second one goes on
# if the server does not come back.
set -e
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
		echo "adit-server.service has not started: adit-server-standby.service goes on in its place. Once it runs again: systemctl stop adit-server-standby" >&2
	fi
	systemctl try-restart 'adit-client@*.service' || true
	;;
esac
