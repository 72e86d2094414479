//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A host is where processes and sockets live: this machine, or a network namespace with a private
// /etc/hosts, /etc/resolv.conf and /run.
//
// It is one operating system thread. Namespaces belong to threads, and what a thread forks or opens
// stays in its namespaces. They have no name in the file system, so that a test that crashes leaves
// nothing behind. The parent death signal is sent when the thread that started a child ends, so the
// processes of a host cannot outlive it.
type host struct {
	name  string
	tid   int
	etc   string // directory of hosts and resolv.conf; "" for this machine
	calls chan func()
}

// machine returns the host that is this machine, without namespaces of its own.
func machine(t *testing.T) *host {
	t.Helper()
	return newHost(t, "machine", nil)
}

// isolated returns a host with namespaces of its own: a network with only loopback, an empty /run,
// no names to resolve.
func isolated(t *testing.T, name string) *host {
	t.Helper()
	needRoot(t)
	need(t, "ip")
	etc := workDir(t)
	writeFile(t, etc, "hosts", "127.0.0.1 localhost\n")
	writeFile(t, etc, "resolv.conf", "")
	// Without PAM, sshd refuses users whose password is locked with "!", as root's is on most
	// machines. "*" is no valid password, but not locked.
	writeFile(t, etc, "shadow", "root:*:19000:0:99999:7:::\n")
	h := newHost(t, name, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount /run: %w", err)
		}
		// Programs outside the namespace may have work directories under their /run, never under
		// this one.
		for _, file := range []string{"hosts", "resolv.conf", "shadow"} {
			target := filepath.Join("/etc", file)
			if resolved, err := filepath.EvalSymlinks(target); err != nil {
				// /etc/resolv.conf is often a link into /run, which is hidden now.
				if link, err := os.Readlink(target); err == nil {
					if !filepath.IsAbs(link) {
						link = filepath.Join("/etc", link)
					}
					if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
						return err
					}
					if err := os.WriteFile(link, nil, 0o644); err != nil {
						return err
					}
				} else if err := os.WriteFile(target, nil, 0o644); err != nil {
					return err
				}
			} else {
				target = resolved
			}
			if err := unix.Mount(filepath.Join(etc, file), target, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount %s: %w", target, err)
			}
		}
		return nil
	})
	h.etc = etc
	h.ip(t, "link set lo up")
	return h
}

func newHost(t *testing.T, name string, enter func() error) *host {
	t.Helper()
	h := &host{name: name, calls: make(chan func())}
	entered, gone := make(chan error), make(chan struct{})
	go func() {
		defer close(gone)
		// The goroutine never unlocks the thread: the thread, and with it the namespaces, ends with
		// the goroutine.
		runtime.LockOSThread()
		h.tid = unix.Gettid()
		var err error
		if enter != nil {
			err = enter()
		}
		entered <- err
		for call := range h.calls {
			call()
		}
	}()
	t.Cleanup(func() {
		close(h.calls)
		<-gone
	})
	if err := <-entered; err != nil {
		t.Fatalf("make the host %s: %v", name, err)
	}
	return h
}

// do runs f in the host and waits for it. Only one f runs at a time, so it must not block for long.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// dial connects from the host to a numeric TCP address.
func (h *host) dial(addr string) (net.Conn, error) {
	return h.dialWithin(5*time.Second, addr)
}

func (h *host) dialWithin(d time.Duration, addr string) (conn net.Conn, err error) {
	h.do(func() { conn, err = net.DialTimeout("tcp", addr, d) })
	return conn, err
}

// listen listens on a numeric TCP address in the host until the end of the test.
func (h *host) listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	var (
		l   net.Listener
		err error
	)
	h.do(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		t.Fatalf("%s: listen on %s: %v", h.name, addr, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// run runs a short command in the host, waits for it and returns its standard output. The test ends
// if the command fails.
func (h *host) run(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	out, err := h.try(t, 3*time.Minute, stdin, argv...)
	if err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
	return out
}

// try is run for commands that may fail. It kills the command after the time within. The error
// contains the standard error output.
func (h *host) try(t *testing.T, within time.Duration, stdin string, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, argv[0]), argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = cleanEnv(os.TempDir())
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var err error
	h.do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	if slices.Contains(argv, aditBin) && !printsSecret(argv) {
		recordOutput("adit in "+t.Name(), func() []string { return strings.Split(stdout.String()+stderr.String(), "\n") })
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %v", within)
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// ip runs ip(8) in the host with the words of args.
func (h *host) ip(t *testing.T, args string) {
	t.Helper()
	h.run(t, "", append([]string{"ip"}, strings.Fields(args)...)...)
}

// addName adds a name to the host's /etc/hosts.
func (h *host) addName(t *testing.T, name, addr string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(h.etc, "hosts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s %s\n", addr, name); err != nil {
		t.Fatal(err)
	}
}

// Addresses of a line. All tests use the same ones, because the namespaces are private.
const (
	clientAddr  = "10.77.1.2"
	middleAddr  = "10.77.1.1" // on the side of the client
	middleOuter = "10.77.2.1" // on the side of the gateway
	gatewayAddr = "10.77.2.2"
	gatewayName = "gw.test"
)

// A line is a client, a middle and a gateway in a row. The client reaches only the middle directly,
// which is where firewalls and proxies run.
type line struct {
	client, middle *host
}

// newLine makes a client and a middle in front of gateway. The firewall in the middle forwards
// nothing yet.
func newLine(t *testing.T, gateway *host) *line {
	t.Helper()
	l := &line{client: isolated(t, "client"), middle: isolated(t, "middle")}
	m := l.middle
	m.ip(t, fmt.Sprintf("link add in0 type veth peer name eth0 netns %d", l.client.tid))
	m.ip(t, fmt.Sprintf("link add out0 type veth peer name eth0 netns %d", gateway.tid))
	// The kernel removes a namespace some time after its last process. The gateway must not have
	// its interface any more when the next line is attached.
	t.Cleanup(func() { m.do(func() { exec.Command(program(t, "ip"), "link", "del", "out0").Run() }) })
	m.ip(t, "addr add "+middleAddr+"/24 dev in0")
	m.ip(t, "addr add "+middleOuter+"/24 dev out0")
	m.ip(t, "link set in0 up")
	m.ip(t, "link set out0 up")
	// A link-local address would appear some time later and look like another change of the
	// client's network.
	l.client.ip(t, "link set eth0 addrgenmode none")
	l.attachClient(t, clientAddr)
	gateway.ip(t, "addr add "+gatewayAddr+"/24 dev eth0")
	gateway.ip(t, "link set eth0 up")
	gateway.ip(t, "route add default via "+middleOuter)
	m.do(func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			t.Errorf("forward in the middle: %v", err)
		}
	})
	m.addName(t, gatewayName, gatewayAddr)
	l.firewall(t, "")
	return l
}

// attachClient gives the client's interface an address and a default route through the middle.
func (l *line) attachClient(t *testing.T, addr string) {
	t.Helper()
	l.client.ip(t, "addr add "+addr+"/24 dev eth0")
	l.client.ip(t, "link set eth0 up")
	l.client.ip(t, "route add default via "+middleAddr)
}

// firewall replaces the rules of the middle: it accepts replies and what rules accept, and drops
// the rest. rules are nft statements for the chains "input" (to the middle; its outer side is open)
// and "forward".
func (l *line) firewall(t *testing.T, rules string) {
	t.Helper()
	need(t, "nft")
	l.middle.run(t, `flush ruleset
table inet wall {
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iif lo accept
		iifname out0 accept
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
	}
}
`+rules, "nft", "-f", "-")
}

// Firewall rules of the scenarios.
const (
	only443   = "add rule inet wall forward iifname in0 tcp dport 443 ct state new accept\n"
	only3128  = "add rule inet wall input iifname in0 tcp dport 3128 ct state new accept\n"
	only1080  = "add rule inet wall input iifname in0 tcp dport 1080 ct state new accept\n"
	dnsToWall = "add rule inet wall input iifname in0 udp dport 53 accept\nadd rule inet wall input iifname in0 tcp dport 53 accept\n"
)
