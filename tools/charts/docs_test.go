package charts

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const root = "../.."

// read decodes a file of the repository, in YAML or JSON.
func read[T any](t *testing.T, path string) (data T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &data))
	return data
}

// What docs/kubernetes.md and docs/metrics.md name must be there: values of the chart, and files.
func TestTheDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	values := read[map[string]any](t, "charts/fibstack/values.yaml")
	var text []byte
	for _, document := range []string{"kubernetes.md", "metrics.md"} {
		more, err := os.ReadFile(filepath.Join(root, "docs", document))
		require.NoError(t, err)
		text = append(text, more...)
	}

	named := 0
	for _, match := range regexp.MustCompile("`([a-zA-Z]+(?:\\.[a-zA-Z]+)+)`").FindAllStringSubmatch(string(text), -1) {
		var value any = values
		for key := range strings.SplitSeq(match[1], ".") {
			parent, _ := value.(map[string]any)
			require.Contains(t, parent, key, match[1])
			value = parent[key]
		}
		named++
	}
	require.Greater(t, named, 15)
	for _, match := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(text), -1) {
		_, err := os.Stat(filepath.Join(root, "docs", match[1]))
		require.NoError(t, err)
	}
}

type composition struct {
	Services map[string]struct {
		Image    string
		Profiles []string
		Ports    []string
	}
}

// TestTheTableOfMetricsIsRight holds the table of docs/metrics.md against what each target runs.
func TestTheTableOfMetricsIsRight(t *testing.T) {
	t.Parallel()
	compose := read[composition](t, "docker-compose.yml")
	addresses := map[string]string{} // by job
	for _, scrape := range read[struct {
		Configs []struct {
			Job   string `json:"job_name"`
			Names []struct {
				Names []string
				Port  int
			} `json:"dns_sd_configs"`
			Static []struct{ Targets []string } `json:"static_configs"`
		} `json:"scrape_configs"`
	}](t, "monitoring/prometheus.yml").Configs {
		for _, names := range scrape.Names {
			addresses[scrape.Job] = net.JoinHostPort(names.Names[0], strconv.Itoa(names.Port))
		}
		for _, static := range scrape.Static {
			addresses[scrape.Job] = static.Targets[0]
		}
	}
	native, err := os.ReadFile(filepath.Join(root, "tools/native/prometheus"))
	require.NoError(t, err)
	beanstalk := map[string]string{} // port of the instance, by container
	for _, container := range read[struct {
		Containers []struct {
			Name  string
			Ports []struct{ HostPort, ContainerPort int } `json:"portMappings"`
		} `json:"containerDefinitions"`
	}](t, "aws/Dockerrun.aws.json").Containers {
		for _, port := range container.Ports {
			beanstalk[container.Name+":"+strconv.Itoa(port.ContainerPort)] = strconv.Itoa(port.HostPort)
		}
	}
	exposes := func(values, component, port string) bool {
		return slices.ContainsFunc(pods(t, render(t, "Helm 4", values)), func(p pod) bool {
			return p.metadata.Labels["app.kubernetes.io/component"] == component && slices.ContainsFunc(p.containers(), func(c corev1.Container) bool {
				return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return strconv.Itoa(int(p.ContainerPort)) == port })
			})
		})
	}

	document, err := os.ReadFile(filepath.Join(root, "docs/metrics.md"))
	require.NoError(t, err)
	described := []string{}
	for line := range strings.Lines(string(document)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 8 || cells[0] == "service" || cells[0] == "---" {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(cells[i], "`")
		}
		service, port, path, profile, variable, value, instance := cells[0], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7]
		described = append(described, service)
		require.Equal(t, "/metrics", path, service)

		host, scraped, err := net.SplitHostPort(addresses[service])
		require.NoError(t, err, service)
		if service == "prometheus" { // which scrapes itself
			host = service
			published, address, _ := strings.Cut(port, " of ")
			require.Equal(t, []string{address + ":${PROMETHEUS_PORT:-" + published + "}:" + scraped}, compose.Services[host].Ports)
		} else {
			require.Equal(t, scraped, port, service)
			require.Empty(t, compose.Services[host].Ports, service)
		}
		require.Contains(t, compose.Services, host)
		require.Equal(t, profile == "MONITORING=1", slices.Contains(compose.Services[host].Profiles, "monitoring"), service)

		require.Contains(t, string(native), `address["`+service+`"] = ENVIRON["`+variable+`"]`)

		component := strings.Replace(service, "postgres", "postgresql", 1)
		require.Equal(t, value == "always", exposes("", component, port), service)
		require.Equal(t, value == "always" || strings.HasSuffix(value, ".enabled"), exposes(chart+"/ci/everything-values.yaml", component, port), service)

		if number, has := beanstalk[host+":"+port]; has || strings.HasSuffix(instance, " of the instance") {
			require.Equal(t, number+" of the instance", instance, service)
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(addresses)), described)
}

// TestImagesAreThoseOfCompose compares tags. k8s/kind also relies on it: it loads compose's images for the chart.
func TestImagesAreThoseOfCompose(t *testing.T) {
	t.Parallel()
	var images []string
	for _, service := range read[composition](t, "docker-compose.yml").Services {
		images = append(images, service.Image)
	}
	for _, p := range pods(t, render(t, "Helm 4", chart+"/ci/everything-values.yaml")) {
		for _, c := range p.containers() {
			if !strings.HasPrefix(c.Image, "fibstack-") {
				require.Contains(t, images, c.Image, p.owner)
			}
		}
	}
}
