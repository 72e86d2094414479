// Package systemd implements the service's side of systemd's protocols:
// readiness and status (sd_notify(3)), the watchdog (sd_watchdog_enabled(3)),
// sockets passed at start (sd_listen_fds(3)) and the journal's native protocol.
// The unit files in this directory configure systemd's side. Without systemd
// the functions do nothing, and NewJournalHandler returns ErrNoJournal.
package systemd
