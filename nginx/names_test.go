package nginx_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The two name services that the proxy meets. Both are real: the tests run in namespaces of their
// own, where /etc/hosts, /etc/resolv.conf and port 53 are theirs and the machine's are untouched.
// Where the kernel allows no namespaces (a container without privileges), both are nil.
var (
	hosts    *hostsFile
	resolver *dnsServer
)

// insideVariable tells the test program that it has been started again inside the namespaces, and
// where its files are.
const insideVariable = "NGINX_TEST_INSIDE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(insideVariable); dir != "" {
		if err := furnish(dir); err != nil {
			fmt.Fprintln(os.Stderr, "preparing the namespaces of the tests:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	err := runInside()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, syscall.EPERM):
		os.Exit(m.Run())
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "running the tests in namespaces:", err)
		os.Exit(1)
	}
}

// runInside runs this program again in new namespaces, as the same user. That of processes is for
// the worst case: with the program, all that it has started ends.
func runInside() error {
	dir, err := os.MkdirTemp("", "nginx-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // whose death Pdeathsig speaks of
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	// A terminal's ^C reaches the program inside too, which has the nginxes to stop.
	signal.Ignore(syscall.SIGINT)
	return cmd.Run()
}

// furnish brings up the loopback interface and puts the tests' own name services in place.
func furnish(dir string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		return fmt.Errorf("bringing up lo: %w", err)
	}

	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for name, text := range map[string]string{
		"hosts":         "127.0.0.1 localhost\n",
		"resolv.conf":   "nameserver 127.0.0.1\n",
		"nsswitch.conf": "hosts: files dns\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, filepath.Join("/etc", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting /etc/%s: %w", name, err)
		}
	}
	hosts = &hostsFile{entries: map[string][]string{"localhost": {"127.0.0.1"}}}
	resolver, err = listenDNS("127.0.0.1:53")
	return err
}

// nameService is what the tests of name services need of both.
type nameService interface {
	set(t *testing.T, name string, addresses ...string)
}

// eachNameService runs the test once by /etc/hosts alone, once by DNS alone.
func eachNameService(t *testing.T, test func(t *testing.T, names nameService)) {
	t.Helper()
	if hosts == nil {
		t.Skip("no /etc/hosts and DNS of its own: the kernel allows no namespaces here")
	}
	t.Run("hosts file", func(t *testing.T) { t.Parallel(); test(t, hosts) })
	t.Run("DNS", func(t *testing.T) { t.Parallel(); test(t, resolver) })
}

type hostsFile struct {
	mu      sync.Mutex
	entries map[string][]string
}

// set writes the file in place, as Docker does: a mounted file cannot be replaced.
func (h *hostsFile) set(t *testing.T, name string, addresses ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries[name] = addresses
	var text strings.Builder
	for name, addresses := range h.entries {
		for _, address := range addresses {
			fmt.Fprintln(&text, address, name)
		}
	}
	require.NoError(t, os.WriteFile("/etc/hosts", []byte(text.String()), 0o644))
}

// dnsServer answers questions for IPv4 addresses, and no others.
type dnsServer struct {
	mu      sync.Mutex
	entries map[string][]string
}

func listenDNS(address string) (*dnsServer, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	d := &dnsServer{entries: map[string][]string{}}
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := d.answer(buffer[:n]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return d, nil
}

func (d *dnsServer) set(_ *testing.T, name string, addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries[name] = addresses
}

// answer reads a query with one question (RFC 1035, section 4.1) and makes it its own answer.
func (d *dnsServer) answer(query []byte) []byte {
	const header, typeAndClass = 12, 4
	var labels []string
	end := header
	for end < len(query) && query[end] != 0 {
		next := end + 1 + int(query[end])
		if next >= len(query) {
			return nil
		}
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	end += 1 + typeAndClass
	if end > len(query) {
		return nil
	}

	d.mu.Lock()
	addresses, known := d.entries[strings.ToLower(strings.Join(labels, "."))]
	d.mu.Unlock()
	const noError, noSuchName = 0x8180, 0x8183
	flags := uint16(noError)
	if !known || len(addresses) == 0 {
		flags = noSuchName
	}

	answer := append([]byte{}, query[:end]...)
	binary.BigEndian.PutUint16(answer[2:], flags)
	binary.BigEndian.PutUint16(answer[4:], 1)
	binary.BigEndian.PutUint16(answer[6:], uint16(len(addresses)))
	binary.BigEndian.PutUint32(answer[8:], 0)
	for _, address := range addresses {
		// The question's name, type A, class IN, not to be cached, four bytes.
		answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		answer = append(answer, netip.MustParseAddr(address).AsSlice()...)
	}
	return answer
}
