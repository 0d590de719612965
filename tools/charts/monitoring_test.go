package charts

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	monitoringValues = "../../k8s/monitoring-values.yaml"            // of the chart fibstack
	operatorValues   = "../../k8s/kube-prometheus-stack-values.yaml" // of the chart of that name
)

// TestTheOperatorFindsAll holds what Prometheus and Grafana are told to look for against what there is.
func TestTheOperatorFindsAll(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(operatorValues)
	require.NoError(t, err)
	var values struct {
		Prometheus struct{ PrometheusSpec map[string]any }
		Grafana    struct {
			Sidecar struct {
				Dashboards struct{ Label, LabelValue, FolderAnnotation, SearchNamespace string }
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &values))

	spec := values.Prometheus.PrometheusSpec
	switches := map[string]string{
		"ServiceMonitor": "serviceMonitorSelectorNilUsesHelmValues",
		"PodMonitor":     "podMonitorSelectorNilUsesHelmValues",
		"PrometheusRule": "ruleSelectorNilUsesHelmValues",
	}
	dashboards := values.Grafana.Sidecar.Dashboards
	require.Equal(t, "ALL", dashboards.SearchNamespace)
	found := map[string]bool{}
	for _, object := range render(t, "Helm 4", monitoringValues) {
		if object.GroupVersionKind().Group == "monitoring.coreos.com" {
			require.Equal(t, false, spec[switches[object.GetKind()]], ref(object))
			found[object.GetKind()] = true
		}
		if object.GetKind() == "ConfigMap" && object.GetAnnotations()[dashboards.FolderAnnotation] != "" {
			require.Equal(t, dashboards.LabelValue, object.GetLabels()[dashboards.Label], ref(object))
			found["dashboard"] = true
		}
	}
	require.Equal(t, map[string]bool{"ServiceMonitor": true, "PodMonitor": true, "PrometheusRule": true, "dashboard": true}, found)

	// The rest are fields of the operator's own object.
	for _, name := range switches {
		delete(spec, name)
	}
	requireValid(t, []*unstructured.Unstructured{{Object: map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": map[string]any{"name": "prometheus"}, "spec": spec,
	}}})
}
