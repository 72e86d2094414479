//go:build linux

package e2e

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// backends are the programs behind the tunnel, on the gateway's loopback at their usual ports.
type backends struct {
	host  *host
	dir   string
	known string // ssh_known_hosts
	login string // root's private ssh key
}

const (
	sshBackend   = "127.0.0.1:22"
	pgBackend    = "127.0.0.1:5432"
	redisBackend = "127.0.0.1:6379"
	jsonBackend  = "127.0.0.1:9000"
	bulkBackend  = "127.0.0.1:9001"
)

// allBackends starts all of them.
var allBackends = []func(*backends, *testing.T){
	(*backends).startBulk, (*backends).startJSON, (*backends).startSSH, (*backends).startRedis, (*backends).startPostgres,
}

func (b *backends) startSSH(t *testing.T) {
	t.Helper()
	need(t, "sshd", "sftp-server", "ssh-keygen")
	hostKey := filepath.Join(b.dir, "ssh_host_key")
	b.login = filepath.Join(b.dir, "id")
	for _, key := range []string{hostKey, b.login} {
		b.host.run(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	public, err := os.ReadFile(hostKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	b.known = writeFile(t, b.dir, "known_hosts", "gateway "+string(public))
	conf := writeFile(t, b.dir, "sshd_config", fmt.Sprintf(`ListenAddress %s
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 100
Subsystem sftp %s
`, sshBackend, hostKey, b.login, program(t, "sftp-server")))
	if err := b.mkdirRun("sshd"); err != nil {
		t.Fatal(err)
	}
	b.host.start(t, "sshd", spec{argv: []string{"sshd", "-D", "-e", "-f", conf}}).awaitPort(t, b.host, sshBackend)
}

// mkdirRun makes a directory in the host's private /run.
func (b *backends) mkdirRun(name string) (err error) {
	b.host.do(func() { err = os.MkdirAll(filepath.Join("/run", name), 0o755) })
	return err
}

func (b *backends) startRedis(t *testing.T) {
	t.Helper()
	need(t, "redis-server")
	addr, port, _ := net.SplitHostPort(redisBackend)
	p := b.host.start(t, "redis-server", spec{argv: []string{"redis-server", "--bind", addr, "--port", port,
		"--save", "", "--appendonly", "no", "--dir", b.dir}})
	p.wait(t, "Ready to accept connections", 1)
}

func (b *backends) startPostgres(t *testing.T) {
	t.Helper()
	need(t, "initdb", "postgres")
	postgres, err := user.Lookup("postgres")
	if err != nil {
		skipWithout(t, "the user postgres: "+err.Error())
	}
	uid, _ := strconv.Atoi(postgres.Uid)
	gid, _ := strconv.Atoi(postgres.Gid)
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	dir := filepath.Join(b.dir, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	initdb := b.host.start(t, "initdb", spec{
		argv: []string{"initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"},
		cred: cred})
	select {
	case <-initdb.done:
	case <-time.After(patience):
		t.Fatal("initdb does not end")
	}
	if !initdb.cmd.ProcessState.Success() {
		t.Fatalf("initdb: %v", initdb.cmd.ProcessState)
	}
	addr, port, _ := net.SplitHostPort(pgBackend)
	p := b.host.start(t, "postgres", spec{argv: []string{"postgres", "-D", data, "-h", addr, "-p", port, "-k", dir, "-F", "-c", "dynamic_shared_memory_type=mmap"}, cred: cred})
	p.wait(t, "ready to accept connections", 1)
}

// A jsonRequest is one line to the JSON backend, a jsonReply its answer.
type (
	jsonRequest struct {
		ID   int    `json:"id"`
		Text string `json:"text"`
	}
	jsonReply struct {
		ID     int    `json:"id"`
		Length int    `json:"length"`
		Text   string `json:"text"`
	}
)

// startJSON serves one line of JSON as the reply to each line of JSON.
func (b *backends) startJSON(t *testing.T) {
	t.Helper()
	serve(t, b.host.listen(t, jsonBackend), func(conn net.Conn) {
		in, out := json.NewDecoder(conn), json.NewEncoder(conn)
		for {
			var request jsonRequest
			if in.Decode(&request) != nil {
				return
			}
			if out.Encode(jsonReply{request.ID, len(request.Text), request.Text}) != nil {
				return
			}
		}
	})
}

// startBulk serves amounts of data. The first line of a connection says what is asked:
//
//	sink          read to the end, then answer with the digest in hex
//	source N      send N bytes and end
//	echo          send back what comes, and end when it ends
func (b *backends) startBulk(t *testing.T) {
	t.Helper()
	serve(t, b.host.listen(t, bulkBackend), func(conn net.Conn) {
		in := bufio.NewReaderSize(conn, 64<<10)
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var n int64
		switch {
		case line == "sink\n":
			digest := sha256.New()
			if _, err := copyBig(digest, in); err == nil {
				fmt.Fprintln(conn, hex.EncodeToString(digest.Sum(nil)))
			}
		case line == "echo\n":
			copyBig(conn, in)
		case scan(line, "source %d\n", &n):
			copyBig(conn, newNoise(uint64(n), n))
		}
	})
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

// serve runs handle for every connection of l in its own goroutine and closes the connection
// afterwards. At the end of the test it closes all and waits for the goroutines.
func serve(t *testing.T, l net.Listener, handle func(net.Conn)) {
	t.Helper()
	var (
		mu      sync.Mutex
		conns   = make(map[net.Conn]bool)
		closed  bool
		running sync.WaitGroup
	)
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[conn] = true
			if closed {
				conn.Close()
			}
			mu.Unlock()
			running.Go(func() {
				handle(conn)
				conn.Close()
				mu.Lock()
				delete(conns, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		closed = true
		for conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
}

// copyBig copies with a large buffer in user space, as an application would.
func copyBig(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 256<<10))
}

// noise is an endless stream of incompressible bytes that is determined by its seed.
type noise struct{ stream cipher.Stream }

func (n noise) Read(p []byte) (int, error) {
	clear(p)
	n.stream.XORKeyStream(p, p)
	return len(p), nil
}

// newNoise returns the first size bytes of the noise of seed.
func newNoise(seed uint64, size int64) io.Reader {
	var key, iv [16]byte
	binary.BigEndian.PutUint64(key[:], seed)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		// The key has a valid length.
		panic(err)
	}
	return io.LimitReader(noise{cipher.NewCTR(block, iv[:])}, size)
}

// noiseDigest returns the digest of newNoise(seed, size).
func noiseDigest(seed uint64, size int64) string {
	return digestOf(newNoise(seed, size))
}

// digestOf reads r to its end and returns the digest, or the error as text.
func digestOf(r io.Reader) string {
	h := sha256.New()
	if _, err := copyBig(h, r); err != nil {
		return "digest: " + err.Error()
	}
	return hexSum(h)
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
