// Package e2e tests the built adit binary as its users run it: as processes, with real programs
// on both sides (ssh, psql, redis) and in between (squid, nginx, a packet filter), inside network
// namespaces of their own. It holds tests only.
//
// ./install.sh installs the programs. A test whose programs or rights are missing is skipped by
// name, unless CI=true: there it fails. ADIT_BIN names a binary to test instead of a fresh build;
// -short shrinks the amounts of data; ADIT_RESUME_MIB is how many MiB go each way over a link that is
// cut all the time.
package e2e
