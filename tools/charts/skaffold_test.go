package charts

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// skaffold is what a choice of profiles makes of skaffold.yaml.
type skaffold struct {
	APIVersion string
	Build      struct {
		Artifacts []struct {
			Image  string
			Docker struct {
				Dockerfile string
				BuildArgs  map[string]string
			}
			Sync map[string]any
		}
	}
	Deploy struct {
		Helm struct {
			Releases []struct {
				Name        string
				ChartPath   string
				ValuesFiles []string
				SetValues   map[string]any
			}
		}
	}
}

func diagnose(t *testing.T, profiles string) (s skaffold) {
	t.Helper()
	cmd := exec.Command("skaffold", "diagnose", "--yaml-only", "--profile", profiles)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("skaffold is not installed")
	}
	require.NoErrorf(t, err, "%s", out)
	require.NoError(t, yaml.Unmarshal(out, &s))
	require.Len(t, s.Deploy.Helm.Releases, 1)
	return s
}

func TestSkaffoldsProfiles(t *testing.T) {
	t.Parallel()
	for _, profiles := range []string{"", "dev", "production", "monitoring", "debug", "dev,monitoring", "monitoring,dev", "debug,monitoring"} {
		t.Run(profiles, func(t *testing.T) {
			t.Parallel()
			s := diagnose(t, profiles)
			has := func(profile string) bool { return slices.Contains(strings.Split(profiles, ","), profile) }

			for _, artifact := range s.Build.Artifacts {
				client := artifact.Image == "fibstack-client"
				require.Equal(t, client && has("dev"), artifact.Docker.Dockerfile == "Dockerfile.dev", artifact.Image)
				require.Equal(t, client && has("dev"), len(artifact.Sync) > 0, artifact.Image)
				require.Equal(t, has("production"), artifact.Docker.BuildArgs["VERSION"] != "", artifact.Image)
				require.Equal(t, !client && has("debug"), artifact.Docker.BuildArgs["GCFLAGS"] != "", artifact.Image)
			}

			release := s.Deploy.Helm.Releases[0]
			args := []string{"tool", helms["Helm 4"], "template", release.Name, release.ChartPath, "--kube-version", kubernetes[0]}
			for _, file := range release.ValuesFiles {
				args = append(args, "--values", file)
			}
			for _, key := range slices.Sorted(maps.Keys(release.SetValues)) {
				args = append(args, "--set", fmt.Sprintf("%s=%v", key, release.SetValues[key]))
			}
			out, err := exec.Command("go", args...).Output()
			require.NoError(t, err)
			objects, err := parse(out)
			require.NoError(t, err)
			requireValid(t, objects)

			kinds := map[string]int{}
			var client *unstructured.Unstructured
			for _, object := range objects {
				kinds[object.GetKind()]++
				if ref(object) == "Deployment/fibstack-client" {
					client = object
				}
			}
			require.Equal(t, 1, kinds["Ingress"])
			require.Equal(t, has("monitoring"), kinds["ServiceMonitor"] > 0)
			require.NotNil(t, client)
			pod := fmt.Sprint(client.Object["spec"])
			require.Equal(t, has("dev"), strings.Contains(pod, "http://fibstack-api:5000"))
			require.Equal(t, has("monitoring") && !has("dev"), strings.Contains(pod, "nginx-prometheus-exporter"))
			require.Equal(t, has("debug"), strings.Contains(string(out), "GOTRACEBACK"))
		})
	}
}
