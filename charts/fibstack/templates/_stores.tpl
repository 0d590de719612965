{{/* How api and worker reach PostgreSQL and Redis, and which Secrets have the passwords. */}}

{{- define "fibstack.postgresql.secretName" -}}
{{- $auth := ternary .Values.postgresql.auth .Values.externalPostgresql .Values.postgresql.enabled -}}
{{- $auth.existingSecret | default (include "fibstack.componentName" (list . "postgresql")) -}}
{{- end }}

{{- define "fibstack.postgresql.secretKey" -}}
{{- $auth := ternary .Values.postgresql.auth .Values.externalPostgresql .Values.postgresql.enabled -}}
{{- ternary $auth.existingSecretKey "password" (not (empty $auth.existingSecret)) -}}
{{- end }}

{{- define "fibstack.redis.secretName" -}}
{{- $auth := ternary .Values.redis.auth .Values.externalRedis .Values.redis.enabled -}}
{{- $auth.existingSecret | default (include "fibstack.componentName" (list . "redis")) -}}
{{- end }}

{{- define "fibstack.redis.secretKey" -}}
{{- $auth := ternary .Values.redis.auth .Values.externalRedis .Values.redis.enabled -}}
{{- ternary $auth.existingSecretKey "password" (not (empty $auth.existingSecret)) -}}
{{- end }}

{{/* Whether there is a password: an external store may want none. */}}
{{- define "fibstack.postgresql.hasPassword" -}}
{{- with .Values.externalPostgresql }}{{ if or $.Values.postgresql.enabled .existingSecret .password }}true{{ end }}{{ end -}}
{{- end }}

{{- define "fibstack.redis.hasPassword" -}}
{{- with .Values.externalRedis }}{{ if or $.Values.redis.enabled .existingSecret .password }}true{{ end }}{{ end -}}
{{- end }}

{{/*
(list $ "api" or "worker"): passwords and extraEnv. What stands in the ConfigMaps may be set again here, but no object
may have two variables of one name.
*/}}
{{- define "fibstack.env" -}}
{{- $root := first . }}
{{- if include "fibstack.postgresql.hasPassword" $root }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "fibstack.postgresql.secretName" $root }}
      key: {{ include "fibstack.postgresql.secretKey" $root }}
{{- end }}
{{- if include "fibstack.redis.hasPassword" $root }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "fibstack.redis.secretName" $root }}
      key: {{ include "fibstack.redis.secretKey" $root }}
{{- end }}
{{- range (index $root.Values (last .)).extraEnv }}
{{- if or (and (eq .name "PGPASSWORD") (include "fibstack.postgresql.hasPassword" $root)) (and (eq .name "REDIS_PASSWORD") (include "fibstack.redis.hasPassword" $root)) }}
{{- fail (printf "%s.extraEnv: %s has a value of its own already, by the password or existingSecret of its store" (last $) .name) }}
{{- end }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/* Authorities to trust, of external stores only. */}}
{{- define "fibstack.stores.volumes" -}}
{{- $cas := dict }}
{{- if not .Values.postgresql.enabled }}{{ $_ := set $cas "postgresql-ca" .Values.externalPostgresql.ca }}{{ end }}
{{- if not .Values.redis.enabled }}{{ $_ := set $cas "redis-ca" .Values.externalRedis.ca }}{{ end }}
{{- range $name, $ca := $cas }}
{{- if $ca.secret }}
- name: {{ $name }}
  secret:
    secretName: {{ $ca.secret }}
    items: [{key: {{ $ca.key }}, path: ca.crt}]
{{- else if $ca.configMap }}
- name: {{ $name }}
  configMap:
    name: {{ $ca.configMap }}
    items: [{key: {{ $ca.key }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end }}

{{- define "fibstack.stores.volumeMounts" -}}
{{- range include "fibstack.stores.volumes" . | fromYamlArray }}
- name: {{ .name }}
  mountPath: /etc/fibstack/{{ .name }}
  readOnly: true
{{- end }}
{{- end }}
