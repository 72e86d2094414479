#!/bin/sh
# After a removal. dpkg's "purge" takes along what an operator put into /etc/adit, which may be keys
# and tokens, and what the server kept: its self-signed key, ACME's certificates, audit records. rpm
# knows no purge and leaves them.
set -e
rmdir /run/adit-client 2>/dev/null || true # where a client made sockets
if [ "$1" = purge ]; then
	rm -rf /etc/adit /var/lib/adit /var/lib/private/adit /var/log/adit /var/log/private/adit
	rm -rf /etc/systemd/system/adit-server.service.d /etc/systemd/system/adit-server-standby.service.d /etc/systemd/system/adit-server.socket.d /etc/systemd/system/adit-client@*.service.d
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	[ "$1" != purge ] || systemctl reset-failed 'adit-*' 2>/dev/null || true
fi
