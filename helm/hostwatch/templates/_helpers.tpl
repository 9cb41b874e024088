{{/* Name of everything. 52 characters: the name of a StatefulSet and a hash are a label. */}}
{{- define "hostwatch.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}
{{- $name = printf "%s-%s" $name .Chart.Name -}}
{{- end -}}
{{- $name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "hostwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hostwatch.labels" -}}
{{ include "hostwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "hostwatch.image" -}}
{{- with .Values.image -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Namespaces whose Secrets are served by a RoleBinding of ours, as JSON. */}}
{{- define "hostwatch.secretNamespaces" -}}
{{- range .Values.secrets.namespaces -}}
{{- if and $.Values.namespaces (not (has . $.Values.namespaces)) -}}
{{- fail (printf "secrets.namespaces: %s is not among namespaces, so no server of it is watched" .) -}}
{{- end -}}
{{- end -}}
{{- $namespaces := .Values.secrets.namespaces | default .Values.namespaces -}}
{{- ternary (list) $namespaces .Values.secrets.clusterWide | uniq | toJson -}}
{{- end -}}

{{- define "hostwatch.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "hostwatch.fullname" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Source of a projected volume that brings a CA bundle as `file`, or nothing. */}}
{{- define "hostwatch.caSource" -}}
{{- if and .ca.configMap .ca.secret -}}
{{- fail (printf "%s.ca: set configMap or secret, not both" .of) -}}
{{- end -}}
{{- if or .ca.configMap .ca.secret }}
- {{ ternary "configMap" "secret" (ne .ca.configMap "") }}:
    name: {{ .ca.configMap | default .ca.secret }}
    items:
      - key: {{ .ca.key }}
        path: {{ .of }}-ca.crt
{{- end }}
{{- end -}}

{{/* Files that the operator reads, as sources of one projected volume, or nothing. */}}
{{- define "hostwatch.files" -}}
{{- include "hostwatch.caSource" (dict "of" "postgres" "ca" .Values.postgres.ca) }}
{{- include "hostwatch.caSource" (dict "of" "nats" "ca" .Values.nats.ca) }}
{{- with .Values.nats.credentialsSecret }}
{{- if .name }}
- secret:
    name: {{ .name }}
    items:
      - key: {{ .key }}
        path: nats.creds
{{- end }}
{{- end }}
{{- end -}}

{{- define "hostwatch.dsn" -}}
valueFrom:
  secretKeyRef:
    name: {{ .name }}
    key: {{ .key }}
{{- end -}}

{{/* The environment. A variable of extraEnv takes the place of ours: of two with one name
     the API server would refuse the second. */}}
{{- define "hostwatch.env" -}}
{{- $extra := dict -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $extra .name -}}
{{- fail (printf "extraEnv: %s is there twice" .name) -}}
{{- end -}}
{{- $_ := set $extra .name true -}}
{{- end -}}
{{- $env := list -}}
{{- range include "hostwatch.ownEnv" . | fromYamlArray -}}
{{- if not (hasKey $extra .name) -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
{{- concat $env .Values.extraEnv | toYaml -}}
{{- end -}}

{{/* Our variables: settings that are left empty keep the operator's default. */}}
{{- define "hostwatch.ownEnv" -}}
- name: HOSTWATCH_INSTANCE
  value: {{ include "hostwatch.fullname" . }}
- name: HOSTWATCH_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: HOSTWATCH_LEASE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: HOSTWATCH_SPOOL_DIR
  value: /var/lib/hostwatch
- name: HOSTWATCH_POSTGRES_DSN
  {{- include "hostwatch.dsn" .Values.postgres.dsnSecret | nindent 2 }}
{{- with .Values.postgres.maintenanceDsnSecret }}
{{- if .name }}
- name: HOSTWATCH_POSTGRES_MAINTENANCE_DSN
  {{- include "hostwatch.dsn" . | nindent 2 }}
{{- end }}
{{- end }}
{{- if or .Values.postgres.ca.configMap .Values.postgres.ca.secret }}
- name: PGSSLROOTCERT
  value: /etc/hostwatch/postgres-ca.crt
{{- end }}
- name: HOSTWATCH_RETENTION_DAYS
  value: {{ .Values.retentionDays | quote }}
- name: HOSTWATCH_NATS_URL
  value: {{ .Values.nats.url | quote }}
{{- if .Values.nats.credentialsSecret.name }}
- name: HOSTWATCH_NATS_CREDENTIALS
  value: /etc/hostwatch/nats.creds
{{- end }}
{{- if or .Values.nats.ca.configMap .Values.nats.ca.secret }}
- name: HOSTWATCH_NATS_CA
  value: /etc/hostwatch/nats-ca.crt
{{- end }}
{{- with .Values.namespaces }}
- name: HOSTWATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
- name: HOSTWATCH_REQUIRE_ORGANIZATION_LABEL
  value: {{ .Values.requireOrganizationLabel | quote }}
{{- with .Values.allowedDestinations }}
- name: HOSTWATCH_ALLOWED_DESTINATIONS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.allowedPorts }}
- name: HOSTWATCH_ALLOWED_PORTS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.clusterCidrs }}
- name: HOSTWATCH_CLUSTER_CIDRS
  value: {{ join "," . | quote }}
{{- end }}
- name: HOSTWATCH_ALLOW_TRUST_ON_FIRST_USE
  value: {{ .Values.trustOnFirstUse | quote }}
- name: HOSTWATCH_HTTP_PORT
  value: "8080"
- name: HOSTWATCH_SERVER_METRICS
  value: {{ .Values.serverMetrics | quote }}
- name: HOSTWATCH_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: HOSTWATCH_LOG_FORMAT
  value: {{ .Values.logFormat }}
# asyncssh looks for a user name, and user 65532 has none.
- name: USER
  value: hostwatch
{{- end -}}
