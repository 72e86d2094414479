#!/bin/sh
# After an installation or an upgrade. dpkg says "configure", and at an upgrade the version before;
# rpm says how many versions there are now.
#
# Nothing is enabled or started: without a configuration neither end has anything to do. What ran
# before an upgrade is restarted; the socket unit keeps the server's port meanwhile.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
case $1:$2 in
configure:?* | [2-9]:*)
	systemctl try-restart adit-server.service 'adit-client@*.service' || true
	;;
esac
