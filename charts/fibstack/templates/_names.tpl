{{- define "fibstack.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end }}

{{- define "fibstack.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "fibstack.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "fibstack.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* The helpers below take (list $ "component"). The name leaves room for what Kubernetes appends to a pod's. */}}
{{- define "fibstack.componentName" -}}
{{- printf "%s-%s" (include "fibstack.fullname" (first .)) (last .) -}}
{{- end }}

{{- define "fibstack.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fibstack.name" (first .) }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "fibstack.labels" -}}
{{- $root := first . -}}
{{ include "fibstack.selectorLabels" . }}
app.kubernetes.io/part-of: {{ include "fibstack.name" $root }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Without versions, for an upgrade must not restart what it does not change. */}}
{{- define "fibstack.podLabels" -}}
{{ include "fibstack.selectorLabels" . }}
{{- with (first .).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fibstack.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "fibstack.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* (list $ image) */}}
{{- define "fibstack.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- with $root.Values.global.imageRegistry | default $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* (list $ "component" constraints) */}}
{{- define "fibstack.topologySpreadConstraints" -}}
{{- $selector := dict "matchLabels" (include "fibstack.selectorLabels" (initial .) | fromYaml) -}}
{{- range last . }}
- {{ merge (dict) . (dict "labelSelector" $selector) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/*
90 % of a memory limit, for Go's garbage collector to work harder before the kernel kills. Kubernetes can hand the
limit itself to a container, but no part of it.
*/}}
{{- define "fibstack.goMemLimit" -}}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $limit := ternary (int64 .) . (kindIs "float64" .) | toString -}}
{{- $unit := regexFind "[A-Za-z]*$" $limit -}}
{{- if not (and (regexMatch "^[0-9.]+[A-Za-z]*$" $limit) (hasKey $factors $unit)) -}}
{{- fail (printf "resources.limits.memory: %q is not a quantity such as 256Mi or 1.5Gi" $limit) -}}
{{- end -}}
{{- divf (mulf (trimSuffix $unit $limit) (get $factors $unit) 0.9) 1048576 | floor | int64 -}}MiB
{{- end }}
