// Package testkit gives tests real, private PostgreSQL and Redis servers: the machine's own programs, run by the
// same scripts as the native stack, on free ports of 127.0.0.1 and in folders that go when the test is over.
package testkit

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver that creates a test's database
	"github.com/stretchr/testify/require"
)

// startTimeout bounds the wait for a server's first answer; making a PostgreSQL cluster on a busy machine takes seconds.
const startTimeout = time.Minute

// Server is one running server. Stop and Start let a test take it away and bring it back with its data.
type Server struct {
	Host string
	Port int

	script string
	dir    string
	ready  func(addr string) error
	cmd    *exec.Cmd
	output *os.File
}

// Addr is the server's host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Redis starts a Redis of the test's own.
func Redis(t testing.TB) *Server {
	t.Helper()
	return start(t, "redis", redisReady)
}

// Postgres starts a PostgreSQL of the test's own, for tests that stop it. Others take a Database, which is quicker.
func Postgres(t testing.TB) *Server {
	t.Helper()
	return start(t, "postgres", postgresReady)
}

func start(t testing.TB, program string, ready func(addr string) error) *Server {
	t.Helper()
	s, err := newServer(program, ready)
	require.NoError(t, err)
	t.Cleanup(s.remove)
	require.NoError(t, s.Start())
	return s
}

var (
	shared    *Server
	sharedErr error
	sharing   sync.Once
	databases atomic.Int64
)

// Main runs a package's tests and then stops the PostgreSQL that their databases shared. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if shared != nil {
		shared.remove()
	}
	os.Exit(code)
}

// Database makes an empty database on a PostgreSQL that the package's tests share, and returns that server and the
// database's name. The user is postgres, without a password. The package's TestMain must call Main.
func Database(t testing.TB) (*Server, string) {
	t.Helper()
	sharing.Do(func() {
		if shared, sharedErr = newServer("postgres", postgresReady); sharedErr == nil {
			sharedErr = shared.Start()
		}
	})
	require.NoError(t, sharedErr)
	name := fmt.Sprintf("test_%d", databases.Add(1))
	db, err := sql.Open("postgres", postgresURL(shared.Addr()))
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	return shared, name
}

// Start runs the server and returns when it answers.
func (s *Server) Start() error {
	s.cmd = exec.Command(s.script, s.dir, strconv.Itoa(s.Port))
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	// The server goes when the test process dies, however that dies.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		// Linux sends the signal when the thread that started the child ends, so this one must not.
		runtime.LockOSThread()
		started <- s.cmd.Start()
		select {}
	}()
	if err := <-started; err != nil {
		return err
	}
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = s.ready(s.Addr()); err == nil {
			return nil
		}
	}
	log, _ := os.ReadFile(s.output.Name())
	return fmt.Errorf("%s did not answer: %w\n%s", filepath.Base(s.script), err, log)
}

// Stop ends the server in an orderly way and returns when it is gone.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *Server) remove() {
	s.Stop()
	_ = s.output.Close()
	_ = os.RemoveAll(filepath.Dir(s.dir))
}

func newServer(program string, ready func(string) error) (*Server, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	parent, err := os.MkdirTemp("", "fibstack-"+program+"-")
	if err != nil {
		return nil, err
	}
	output, err := os.Create(filepath.Join(parent, "log"))
	if err != nil {
		return nil, err
	}
	return &Server{
		Host: "127.0.0.1", Port: port, ready: ready, output: output,
		script: filepath.Join(Root(), "tools", "native", program), dir: filepath.Join(parent, "data"),
	}, nil
}

// FreePort returns a TCP port of 127.0.0.1 that nothing listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Root returns the repository's root.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func postgresURL(addr string) string {
	return "postgres://postgres@" + addr + "/postgres?sslmode=disable&connect_timeout=1"
}

func postgresReady(addr string) error {
	db, err := sql.Open("postgres", postgresURL(addr))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return db.PingContext(ctx)
}

func redisReady(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, len("+PONG\r\n"))
	n, err := conn.Read(answer)
	if err == nil && !strings.HasPrefix(string(answer[:n]), "+PONG") {
		err = fmt.Errorf("redis answered %q", answer[:n])
	}
	return err
}
