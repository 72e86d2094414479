//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Forwards of the client, on its loopback.
const (
	sshLocal   = "127.0.0.1:2222"
	pgLocal    = "127.0.0.1:15432"
	redisLocal = "127.0.0.1:16379"
	jsonLocal  = "127.0.0.1:19000"
	bulkLocal  = "127.0.0.1:19001"
)

// A tunnelUser uses the backends through the tunnel from the client's host.
type tunnelUser struct {
	at       *host
	backends *backends
	wCommand []string // argv of adit client without -W and the URL
	url      string
}

// sshFiles transfers files by ssh and scp through a forward.
func (u *tunnelUser) sshFiles(t *testing.T) {
	_, port, _ := net.SplitHostPort(sshLocal)
	u.sshAndScp(t, "-o", "Port="+port)
}

// sshProxyCommand does the same with adit client -W as ssh's ProxyCommand.
func (u *tunnelUser) sshProxyCommand(t *testing.T) {
	command := append(append([]string{}, u.wCommand...), "-W", "%h:%p", u.url)
	for i, word := range command {
		if strings.ContainsAny(word, " '\"\\$") {
			t.Fatalf("the word %q would need quoting", word)
		}
		// ssh expands %-tokens, but the URL is literal.
		if word != "%h:%p" {
			command[i] = strings.ReplaceAll(word, "%", "%%")
		}
	}
	u.sshAndScp(t, "-o", "ProxyCommand="+strings.Join(command, " "))
}

// sshOptions returns the options that ssh and scp always need, and more.
func (u *tunnelUser) sshOptions(t *testing.T, more ...string) []string {
	t.Helper()
	need(t, "ssh", "scp")
	return append([]string{"-F", "none", "-q", "-i", u.backends.login,
		"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "HostKeyAlias=gateway",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + u.backends.known}, more...)
}

func (u *tunnelUser) sshAndScp(t *testing.T, options ...string) {
	options = u.sshOptions(t, options...)

	got := u.at.run(t, "", append(append([]string{"ssh"}, options...), "root@127.0.0.1", "echo over the tunnel; exit 0")...)
	if got != "over the tunnel\n" {
		t.Errorf("ssh printed %q", got)
	}
	// Check the exit status of the remote command, and a large standard input.
	const size = 8 << 20
	data, err := io.ReadAll(newNoise(22, size))
	if err != nil {
		t.Fatal(err)
	}
	got = u.at.run(t, string(data), append(append([]string{"ssh"}, options...), "root@127.0.0.1", "sha256sum")...)
	if want := noiseDigest(22, size) + "  -\n"; got != want {
		t.Errorf("ssh sha256sum: got %q, want %q", got, want)
	}
	if _, err := u.at.try(t, patience, "", append(append([]string{"ssh"}, options...), "root@127.0.0.1", "exit 3")...); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("ssh 'exit 3': %v, want exit status 3", err)
	}

	dir := workDir(t)
	there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
	source := writeFile(t, dir, "source", string(data))
	u.at.run(t, "", append(append([]string{"scp"}, options...), source, "root@127.0.0.1:"+there)...)
	u.at.run(t, "", append(append([]string{"scp"}, options...), "root@127.0.0.1:"+there, back)...)
	for _, path := range []string{there, back} {
		f, err := os.Open(path)
		if err != nil {
			t.Errorf("after scp: %v", err)
			continue
		}
		if digestOf(f) != noiseDigest(22, size) {
			t.Errorf("%s differs from what scp was given", filepath.Base(path))
		}
		f.Close()
	}
}

// psql loads a table in bulk, queries it and reads it in bulk.
func (u *tunnelUser) psql(t *testing.T) {
	need(t, "psql")
	host, port, _ := net.SplitHostPort(pgLocal)
	script := `create temporary table t as select i, md5(i::text) as m from generate_series(1, 20000) i;
copy t from stdin;
20001	x
20002	y
\.
select count(*), sum(i) from t;
copy (select i, m from t order by i) to stdout;
`
	out := u.at.run(t, script, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "postgres")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 1+20002 || lines[0] != "20002|200050003" || lines[20002] != "20002\ty" {
		t.Errorf("psql printed %d lines, the first %q, the last %q", len(lines), lines[0], lines[len(lines)-1])
	}
}

// redis runs redis-benchmark with 50 connections and checks that the server got its commands.
func (u *tunnelUser) redis(t *testing.T) {
	need(t, "redis-benchmark", "redis-cli")
	host, port, _ := net.SplitHostPort(redisLocal)
	u.at.run(t, "", "redis-cli", "-h", host, "-p", port, "flushall")
	out := u.at.run(t, "", "redis-benchmark", "-h", host, "-p", port, "-c", "50", "-n", "20000", "-P", "4", "-d", "200", "-r", "100000", "-t", "set,get,lrange_100", "--csv")
	for _, test := range []string{`"SET"`, `"GET"`, `"LRANGE_100`} {
		if !strings.Contains(out, test) {
			t.Errorf("redis-benchmark has no result for %s:\n%s", test, out)
		}
	}
	// The exit status of redis-benchmark says nothing about its replies; the server counts the
	// commands.
	calls := u.at.run(t, "", "redis-cli", "-h", host, "-p", port, "info", "commandstats")
	if !strings.Contains(calls, "cmdstat_lrange:calls=") {
		t.Errorf("redis saw no LRANGE:\n%s", calls)
	}
}

// json makes requests to the JSON backend line by line on several connections at once.
func (u *tunnelUser) json(t *testing.T) {
	inParallel(t, 10, func(i int) error {
		conn, err := u.at.dial(jsonLocal)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		in, out := json.NewDecoder(conn), json.NewEncoder(conn)
		for n := range 100 {
			request := jsonRequest{ID: i*1000 + n, Text: strings.Repeat("ž", n*n)}
			if err := out.Encode(request); err != nil {
				return fmt.Errorf("request %d: %w", n, err)
			}
			var reply jsonReply
			if err := in.Decode(&reply); err != nil {
				return fmt.Errorf("reply %d: %w", n, err)
			}
			if want := (jsonReply{request.ID, len(request.Text), request.Text}); reply != want {
				return fmt.Errorf("reply %d is about %d with length %d", n, reply.ID, reply.Length)
			}
		}
		return nil
	})
}

// bulk uploads size bytes, then downloads as many, and compares digests.
func (u *tunnelUser) bulk(t *testing.T, size int64) {
	up, err := u.ask("sink\n")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	start := time.Now()
	sent := sha256.New()
	if n, err := copyBig(up, io.TeeReader(newNoise(1, size), sent)); err != nil {
		t.Fatalf("upload failed after %d bytes: %v", n, err)
	}
	if err := up.CloseWrite(); err != nil {
		t.Fatalf("end the upload: %v", err)
	}
	got, err := io.ReadAll(up)
	if err != nil {
		t.Fatalf("the digest of the upload: %v", err)
	}
	if want := hexSum(sent) + "\n"; string(got) != want {
		t.Errorf("upload of %d bytes arrived as %q, want %q", size, got, want)
	}
	rate := func() string {
		return fmt.Sprintf("%.0f MiB/s", float64(size)/(1<<20)/time.Since(start).Seconds())
	}
	t.Logf("up: %d MiB, %s", size>>20, rate())

	down, err := u.ask(fmt.Sprintf("source %d\n", size))
	if err != nil {
		t.Fatal(err)
	}
	defer down.Close()
	start = time.Now()
	received := sha256.New()
	n, err := copyBig(received, down)
	if err != nil {
		t.Fatalf("download failed after %d bytes: %v", n, err)
	}
	t.Logf("down: %d MiB, %s", size>>20, rate())
	if n != size || hexSum(received) != noiseDigest(uint64(size), size) {
		t.Errorf("download of %d bytes arrived as %d other bytes", size, n)
	}
}

// ask connects to the bulk backend and sends the first line.
func (u *tunnelUser) ask(line string) (*net.TCPConn, error) {
	conn, err := u.at.dial(bulkLocal)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(3 * time.Minute))
	if _, err := io.WriteString(conn, line); err != nil {
		conn.Close()
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// manyStreams runs 200 streams of different sizes at once, each in both directions, and compares
// all data.
func (u *tunnelUser) manyStreams(t *testing.T) {
	inParallel(t, 200, func(i int) error {
		// Sizes are 0, single bytes, and up to 4 MiB.
		size := int64(0)
		if i > 0 {
			size = 1<<(i%23) + int64(i)
		}
		return u.echo(uint64(i), size)
	})
}

// echo sends size bytes to the echo backend while it reads them back.
func (u *tunnelUser) echo(seed uint64, size int64) error {
	conn, err := u.ask("echo\n")
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := copyBig(conn, newNoise(seed, size))
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	back := sha256.New()
	n, err := copyBig(back, conn)
	if err != nil {
		// This unblocks the sender.
		conn.Close()
	}
	if err := errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("stream %d of %d bytes, %d came back: %w", seed, size, n, err)
	}
	if n != size || hexSum(back) != noiseDigest(seed, size) {
		return fmt.Errorf("stream %d: of %d bytes %d came back, or not the same", seed, size, n)
	}
	return nil
}

// inParallel runs f(0) to f(n-1) at once and reports each error.
func inParallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { errs[i] = f(i) })
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("%d of %d: %v", i, n, err)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
