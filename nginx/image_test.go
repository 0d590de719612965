package nginx_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestImageFollowsContainers is for the name services of a Docker engine as they really are. It needs
// one, and an image: NGINX_IMAGE=fibstack-nginx go test -run Image ./nginx
func TestImageFollowsContainers(t *testing.T) {
	image := os.Getenv("NGINX_IMAGE")
	if image == "" {
		t.Skip("NGINX_IMAGE names no image")
	}

	docker := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := exec.Command("docker", args...).CombinedOutput()
		require.NoError(t, err, "docker %s: %s", strings.Join(args, " "), out)
		return strings.TrimSpace(string(out))
	}
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		id := docker(t, append([]string{
			"run", "--detach", "--read-only", "--tmpfs", "/tmp",
			"--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		}, args...)...)
		t.Cleanup(func() { docker(t, "rm", "--force", id) })
		return id
	}
	// An api that answers with its address.
	runAPI := func(t *testing.T, args ...string) string {
		t.Helper()
		const script = `echo 'server { listen 5000; return 200 $server_addr; }' >/tmp/api && exec /opt/nginx/run /tmp/nginx /tmp/api`
		return run(t, append(args, "--entrypoint", "sh", image, "-c", script)...)
	}
	addressOf := func(t *testing.T, id string) string {
		t.Helper()
		return docker(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
	}
	requireAnswerFrom := func(t *testing.T, front, address string) {
		t.Helper()
		require.Eventually(t, func() bool {
			out, _ := exec.Command("docker", "exec", front, "curl", "-s", "http://127.0.0.1:8080/api/").Output()
			return string(out) == address
		}, patience, 100*time.Millisecond)
	}
	// The engine gives a container that starts again another address when its own has been taken.
	move := func(t *testing.T, api string, args ...string) {
		t.Helper()
		old := addressOf(t, api)
		docker(t, "stop", api)
		runAPI(t, args...)
		docker(t, "start", api)
		require.NotEqual(t, old, addressOf(t, api))
	}

	t.Run("by DNS", func(t *testing.T) {
		network := fmt.Sprintf("nginx-test-%d", time.Now().UnixNano())
		docker(t, "network", "create", network)
		t.Cleanup(func() { docker(t, "network", "rm", network) })

		front := run(t, "--network", network, image)
		require.Eventually(t, func() bool {
			return docker(t, "inspect", "--format", "{{.State.Health.Status}}", front) == "healthy"
		}, patience, 100*time.Millisecond)
		api := runAPI(t, "--network", network, "--network-alias", "api")
		requireAnswerFrom(t, front, addressOf(t, api))

		move(t, api, "--network", network)
		requireAnswerFrom(t, front, addressOf(t, api))

		docker(t, "stop", front)
		require.Equal(t, "0", docker(t, "inspect", "--format", "{{.State.ExitCode}}", front))
	})

	t.Run("by links", func(t *testing.T) {
		api := runAPI(t)
		front := run(t, "--link", api+":api", image)
		requireAnswerFrom(t, front, addressOf(t, api))

		move(t, api)
		requireAnswerFrom(t, front, addressOf(t, api))
	})
}
