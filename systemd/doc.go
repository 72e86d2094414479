// Package systemd is the Go half of the contract with the service manager:
// readiness and state (sd_notify(3)), the watchdog (sd_watchdog_enabled(3)) and
// sockets handed over at start (sd_listen_fds(3)). The unit files beside it are
// the other half. Outside systemd every function does nothing.
package systemd
