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

// A host is a place where processes and sockets live: the machine itself, or a network namespace
// with a private view of /etc/hosts, /etc/resolv.conf and /run.
//
// It is one operating system thread. Namespaces belong to threads, and what a thread forks or
// opens stays in its namespaces. They have no name in the file system, so that a test that dies
// leaves nothing behind; and as the parent death signal is sent when a child's parent thread ends,
// a host's processes cannot outlive it.
type host struct {
	name  string
	tid   int
	etc   string // private hosts and resolv.conf; "" on the machine itself
	calls chan func()
}

// machine returns the host that is this machine, with no namespace of its own.
func machine(t *testing.T) *host {
	t.Helper()
	return newHost(t, "machine", nil)
}

// isolated returns a host with namespaces of its own: a network with only loopback, an empty /run
// and no names to resolve.
func isolated(t *testing.T, name string) *host {
	t.Helper()
	needRoot(t)
	need(t, "ip")
	etc := workDir(t)
	writeFile(t, etc, "hosts", "127.0.0.1 localhost\n")
	writeFile(t, etc, "resolv.conf", "")
	// With PAM left out, sshd lets nobody in whose password is locked with "!", as root's is on
	// most machines; "*" is no password either, but does not lock.
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
		// Programs outside the namespace may have their work directories under a /run of theirs,
		// never under this one.
		for _, file := range []string{"hosts", "resolv.conf", "shadow"} {
			target := filepath.Join("/etc", file)
			if resolved, err := filepath.EvalSymlinks(target); err != nil {
				// /etc/resolv.conf often points into /run, which was just hidden.
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
		// Never unlocked: the thread, and with it the namespaces, ends with this goroutine.
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

// do runs f in the host and waits for it. One at a time: f must not block for long.
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

// listen opens a numeric TCP address in the host until the test's end.
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

// run runs a short command in the host to its end and returns its standard output. A failure ends
// the test.
func (h *host) run(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	out, err := h.try(t, 3*time.Minute, stdin, argv...)
	if err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
	return out
}

// try is run for commands that may fail, or must end within a time; the error carries their
// standard error output.
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
	if slices.Contains(argv, aditBin) && !meant(argv) {
		overhear("adit in "+t.Name(), func() []string { return strings.Split(stdout.String()+stderr.String(), "\n") })
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %v", within)
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// ip runs ip(8) with the words of args in the host.
func (h *host) ip(t *testing.T, args string) {
	t.Helper()
	h.run(t, "", append([]string{"ip"}, strings.Fields(args)...)...)
}

// knows lets the host resolve name to addr by its hosts file.
func (h *host) knows(t *testing.T, name, addr string) {
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

// The addresses of a line. They may be the same in every test: the namespaces are private.
const (
	clientAddr  = "10.77.1.2"
	middleAddr  = "10.77.1.1" // as the client sees it
	middleOuter = "10.77.2.1" // as the gateway sees it
	gatewayAddr = "10.77.2.2"
	gatewayName = "gw.test"
)

// A line is client – middle – gateway, the middle being all that the client can reach by itself:
// the place of a firewall and of a proxy.
type line struct {
	client, middle *host
}

// newLine builds a client and a middle in front of gateway. The middle forwards nothing yet.
func newLine(t *testing.T, gateway *host) *line {
	t.Helper()
	l := &line{client: isolated(t, "client"), middle: isolated(t, "middle")}
	m := l.middle
	m.ip(t, fmt.Sprintf("link add in0 type veth peer name eth0 netns %d", l.client.tid))
	m.ip(t, fmt.Sprintf("link add out0 type veth peer name eth0 netns %d", gateway.tid))
	// A namespace is torn down some time after its last process: the gateway must be rid of its
	// end before the next line is attached to it.
	t.Cleanup(func() { m.do(func() { exec.Command(program(t, "ip"), "link", "del", "out0").Run() }) })
	m.ip(t, "addr add "+middleAddr+"/24 dev in0")
	m.ip(t, "addr add "+middleOuter+"/24 dev out0")
	m.ip(t, "link set in0 up")
	m.ip(t, "link set out0 up")
	// A link-local address comes a while after the link: another change of the client's network.
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
	m.knows(t, gatewayName, gatewayAddr)
	l.firewall(t, "")
	return l
}

// attachClient gives the client's link an address and the way out through the middle.
func (l *line) attachClient(t *testing.T, addr string) {
	t.Helper()
	l.client.ip(t, "addr add "+addr+"/24 dev eth0")
	l.client.ip(t, "link set eth0 up")
	l.client.ip(t, "route add default via "+middleAddr)
}

// firewall replaces the middle's rules: answers pass, and what rules say; the rest is dropped.
// rules are nft statements for the chains "input" (to the middle, its outer side is open) and
// "forward".
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

// The firewall rules of the scenarios.
const (
	only443   = "add rule inet wall forward iifname in0 tcp dport 443 ct state new accept\n"
	only3128  = "add rule inet wall input iifname in0 tcp dport 3128 ct state new accept\n"
	only1080  = "add rule inet wall input iifname in0 tcp dport 1080 ct state new accept\n"
	dnsToWall = "add rule inet wall input iifname in0 udp dport 53 accept\nadd rule inet wall input iifname in0 tcp dport 53 accept\n"
)
