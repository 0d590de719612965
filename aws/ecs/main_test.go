package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/internal/testkit"
)

func dockerrun(t *testing.T) Dockerrun {
	t.Helper()
	d, err := Read(filepath.Join(testkit.Root(), "aws", "Dockerrun.aws.json"))
	require.NoError(t, err)
	require.Equal(t, 2, d.Version)
	return d
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(testkit.Root(), path))
	require.NoError(t, err)
	return string(content)
}

func TestContainersCanBeStartedInOrder(t *testing.T) {
	order, err := dockerrun(t).StartOrder()
	require.NoError(t, err)
	require.Len(t, order, 6)

	_, err = Dockerrun{Containers: []Container{{Name: "a", Links: []string{"b"}}, {Name: "b", Links: []string{"a:x"}}}}.StartOrder()
	require.Error(t, err)
}

func TestAnUnknownKeyIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Dockerrun.aws.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"AWSEBDockerrunVersion": 2, "networkMode": "awsvpc"}`), 0o600))
	_, err := Read(path)
	require.ErrorContains(t, err, "networkMode")
}

// A t3.small has 2048 MiB, of which the kernel takes some 140; the rest is for Docker, the ECS agent, Beanstalk's own
// agents and the cache of files.
func TestLimitsFitTheInstance(t *testing.T) {
	memory, cpu := 0, 0
	for _, c := range dockerrun(t).Containers {
		require.Positive(t, c.MemoryReservation, c.Name)
		require.LessOrEqual(t, c.MemoryReservation, c.Memory, c.Name)
		memory += c.Memory
		cpu += c.CPU
	}
	require.LessOrEqual(t, memory, 2048-140-512)
	require.LessOrEqual(t, cpu, 2048)
}

func TestEveryContainerIsHeldTight(t *testing.T) {
	ports := map[int]bool{}
	for _, c := range dockerrun(t).Containers {
		require.True(t, c.Essential, c.Name) // or Beanstalk leaves it dead
		require.True(t, c.ReadonlyRootFilesystem, c.Name)
		require.Equal(t, []string{"ALL"}, c.LinuxParameters.Capabilities.Drop, c.Name)
		require.Greater(t, c.StopTimeout, 25, "%s: GRACE_PERIOD", c.Name)
		require.Contains(t, c.LogConfiguration.Options, "max-size", c.Name)
		for _, p := range c.PortMappings {
			require.False(t, ports[p.HostPort], "host port %d twice", p.HostPort)
			ports[p.HostPort] = true
		}
	}
	require.True(t, ports[80])
}

func TestImagesAreOursUnderATagOrPinned(t *testing.T) {
	compose := read(t, "docker-compose.yml")
	for _, c := range dockerrun(t).Containers {
		name, tag, _ := strings.Cut(strings.TrimPrefix(c.Image, "${IMAGE_PREFIX}"), ":")
		if name == c.Image || strings.HasPrefix(name, "nginx/") {
			require.Regexp(t, `^\d+\.\d+\.\d+$`, tag)
			continue
		}
		require.Contains(t, compose, "image: "+name+"\n")
		require.Equal(t, "${IMAGE_TAG}", tag)
		// Docker cannot be told another check in ECS's form, so the local run uses the image's own.
		folder := strings.TrimPrefix(name, "fibstack-")
		require.Contains(t, read(t, folder+"/Dockerfile"), "HEALTHCHECK")
		require.NotNil(t, c.HealthCheck)
	}
}

func TestVariablesAreKnownAndNoSecrets(t *testing.T) {
	readme := read(t, "README.md")
	for _, c := range dockerrun(t).Containers {
		for _, variable := range c.Environment {
			require.NotRegexp(t, `PASSWORD|SECRET|TOKEN|KEY`, variable.Name)
			if variable.Name == "GOMEMLIMIT" { // Go's own
				continue
			}
			require.Regexp(t, "(?m)^\\| `"+variable.Name+"` \\|[^|]*\\|[^|]*\\b"+c.Name+"\\b", readme)
		}
	}
}
