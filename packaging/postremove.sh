#!/bin/sh
# Runs after a removal. dpkg's "purge" also removes the operator's files in /etc/adit, such as keys
# and tokens, and the server's state: its self-signed key, ACME certificates, audit records. rpm has
# no purge and keeps them.
set -e
rmdir /run/adit-client 2>/dev/null || true # parent of the clients' runtime directories
if [ "$1" = purge ]; then
	rm -rf /etc/adit /var/lib/adit /var/lib/private/adit /var/log/adit /var/log/private/adit
	rm -rf /etc/systemd/system/adit-server.service.d /etc/systemd/system/adit-server-standby.service.d /etc/systemd/system/adit-server.socket.d /etc/systemd/system/adit-client@*.service.d
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	[ "$1" != purge ] || systemctl reset-failed 'adit-*' 2>/dev/null || true
fi
