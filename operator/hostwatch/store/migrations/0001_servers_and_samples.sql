-- The fleet, and one row per collection.
--
-- Columns are ordered by alignment, 8-byte values first: it saves about 20 bytes in
-- each of the hundreds of millions of rows.

CREATE TABLE hostwatch.servers (
    server_id            uuid PRIMARY KEY,
    cluster_id           uuid NOT NULL,
    organization         text NOT NULL,
    namespace            text NOT NULL,
    name                 text NOT NULL,
    host                 text,
    labels               jsonb NOT NULL DEFAULT '{}',
    first_seen           timestamptz NOT NULL,
    last_seen            timestamptz NOT NULL,
    deleted_at           timestamptz,
    health               text NOT NULL DEFAULT 'unknown' CHECK (health IN
        ('healthy', 'warning', 'critical', 'error', 'unknown', 'suspended')),
    reason               text,
    latest_at            timestamptz,
    cpu_usage            real,
    memory_usage         bigint,
    memory_total         bigint,
    disk_usage           bigint,
    disk_available       bigint,
    disk_total           bigint,
    disk_mount           text,
    network_rx_bytes     bigint,
    network_tx_bytes     bigint,
    load_1               real,
    load_5               real,
    load_15              real,
    uptime_seconds       bigint,
    host_key_fingerprint text,
    host_key_host        text,
    host_key_port        integer,
    host_key_pinned_at   timestamptz
) WITH (fillfactor = 60); -- room for the updates of each batch beside the row

CREATE INDEX servers_by_name ON hostwatch.servers (cluster_id, namespace, name);

COMMENT ON TABLE hostwatch.servers IS
    'One row per MonitoredServer; a new uid of the same name is a new row';
COMMENT ON COLUMN hostwatch.servers.cluster_id IS
    'UID of the namespace kube-system';
COMMENT ON COLUMN hostwatch.servers.latest_at IS
    'When the newest sample was taken; health, reason and metrics are its own';

CREATE TABLE hostwatch.server_resource_metrics (
    server_id            uuid NOT NULL,
    collected_at         timestamptz NOT NULL,
    memory_usage         bigint,
    memory_total         bigint,
    disk_usage           bigint,
    disk_available       bigint,
    disk_total           bigint,
    network_rx_bytes     bigint,
    network_tx_bytes     bigint,
    uptime_seconds       bigint,
    cpu_usage            real,
    cpu_user             real,
    cpu_system           real,
    cpu_iowait           real,
    cpu_steal            real,
    load_1               real,
    load_5               real,
    load_15              real,
    organization         text NOT NULL,
    status               text NOT NULL CHECK (status IN
        ('healthy', 'warning', 'critical', 'error')),
    reason               text,
    disk_mount           text,
    filesystems          jsonb,
    interfaces           jsonb,
    PRIMARY KEY (server_id, collected_at)
) PARTITION BY RANGE (collected_at);

COMMENT ON TABLE hostwatch.server_resource_metrics IS
    'One row per collection, failed ones too; NULL is "not measured"';
COMMENT ON COLUMN hostwatch.server_resource_metrics.cpu_usage IS
    'Percent; the parts are inside it';
COMMENT ON COLUMN hostwatch.server_resource_metrics.disk_usage IS
    'Bytes, of the fullest filesystem, which disk_mount names';
COMMENT ON COLUMN hostwatch.server_resource_metrics.network_rx_bytes IS
    'Counter since boot, of all physical interfaces';
COMMENT ON COLUMN hostwatch.server_resource_metrics.filesystems IS
    'Detail of each mount, every 5 minutes and when the set of mounts changes';
COMMENT ON COLUMN hostwatch.server_resource_metrics.interfaces IS
    'Detail of each interface, in the rows that hold filesystems';
