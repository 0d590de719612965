package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the checkout.
var root = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(file))
}()

// Stack is a private native stack, as tools/native/stack runs it.
type Stack struct {
	// URL is where its front door is.
	URL string

	dir string
	env map[string]string
	// life keeps the stack up while it is open, and whoever ends the stack then is keeper.
	life   io.Closer
	keeper *exec.Cmd
}

// Build makes targets of the Makefile, for one test process at a time.
func Build(targets ...string) error {
	lock, err := os.Open(filepath.Join(root, "Makefile"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	_, err = run(nil, "make", append([]string{"--silent", "--no-print-directory"}, targets...)...)
	return err
}

// BuildStack builds what a stack runs from the sources as they are now.
func BuildStack() error { return Build("build", "bin/goreman") }

// StartStack starts a private stack with the given settings, NAME=value each, and returns when it answers. It ends
// with Close, or with the process.
func StartStack(settings ...string) (*Stack, error) {
	dir, err := os.MkdirTemp("", "fibstack-e2e-")
	if err != nil {
		return nil, err
	}
	s := &Stack{dir: dir, env: map[string]string{}}
	// The keeper waits for the end of its input, which comes however this process ends.
	s.keeper = exec.Command("sh", "-c", "cat; exec tools/native/stack clean")
	s.keeper.Dir, s.keeper.Env = root, s.environ()
	s.keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.life, err = s.keeper.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.keeper.Start(); err != nil {
		return nil, err
	}
	if _, err := run(append(s.environ(), settings...), "tools/native/stack", "up"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		s.env[name] = value
	}
	s.URL = s.env["BASE_URL"]
	return s, nil
}

// Close ends the stack and removes its data.
func (s *Stack) Close() error {
	_ = s.life.Close()
	return s.keeper.Wait()
}

// Env is an address or another fact about the stack, by its name in tools/native/stack.
func (s *Stack) Env(name string) string { return s.env[name] }

// Log returns the last lines that the processes have logged.
func (s *Stack) Log() string {
	const most = 100
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	lines := strings.SplitAfter(string(log), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "")
}

// Stop ends one process of the stack in an orderly way and returns when it has ended.
func (s *Stack) Stop(tb testing.TB, process string) {
	tb.Helper()
	_, err := run(s.environ(), "tools/native/stack", "run", "stop", process)
	require.NoError(tb, err)
}

// Start starts one process that has ended.
func (s *Stack) Start(tb testing.TB, process string) {
	tb.Helper()
	_, err := run(s.environ(), "tools/native/stack", "run", "start", process)
	require.NoError(tb, err)
}

// PIDs returns the ids of the processes that run a program.
func (s *Stack) PIDs(tb testing.TB, program string) []int {
	tb.Helper()
	output, _ := run(s.environ(), "tools/native/stack", "pid", program) // fails when there is none
	var pids []int
	for field := range strings.FieldsSeq(output) {
		pid, err := strconv.Atoi(field)
		require.NoError(tb, err)
		pids = append(pids, pid)
	}
	return pids
}

func (s *Stack) environ() []string { return []string{"RUN_DIR=" + s.dir, "PORT=0"} }

// run runs a program in the checkout.
func run(environ []string, name string, args ...string) (output string, err error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), environ...)
	content, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, content)
	}
	return string(content), nil
}
