-- The alerts as they stand and stood, and what must be told of them.
--
-- No foreign keys: a server's row is written by another connection, in its own time.

CREATE TABLE hostwatch.alerts (
    alert_id      uuid PRIMARY KEY,
    cluster_id    uuid NOT NULL,
    server_id     uuid NOT NULL,
    since         timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    started_at    timestamptz,
    ended_at      timestamptz,
    cleared_since timestamptz,
    updated_at    timestamptz NOT NULL,
    value         double precision,
    threshold     double precision,
    transition    integer NOT NULL,
    absent        integer NOT NULL,
    organization  text NOT NULL,
    namespace     text NOT NULL,
    name          text NOT NULL,
    rule          text NOT NULL,
    label         text NOT NULL,
    state         text NOT NULL CHECK (state IN
        ('inactive', 'pending', 'firing', 'resolved')),
    severity      text NOT NULL CHECK (severity IN ('warning', 'critical')),
    message       text NOT NULL,
    ended_reason  text
) WITH (fillfactor = 80); -- room for the updates of an alert that goes on

CREATE INDEX alerts_active ON hostwatch.alerts (server_id)
    WHERE state IN ('pending', 'firing');
CREATE INDEX alerts_by_server ON hostwatch.alerts (server_id, started_at);

COMMENT ON TABLE hostwatch.alerts IS
    'One row per alert that fired, and one per server, rule and label that was pending';
COMMENT ON COLUMN hostwatch.alerts.alert_id IS
    'As in messages; before it fires, an id of server, rule and label that nobody is '
    'told and the next pending one uses again';
COMMENT ON COLUMN hostwatch.alerts.state IS
    'inactive: it was pending and did not fire, or fired under its own id';
COMMENT ON COLUMN hostwatch.alerts.label IS
    'Mount point of DiskFull, else empty';
COMMENT ON COLUMN hostwatch.alerts.value IS
    'Percent, as threshold; NULL where the rule has none';
COMMENT ON COLUMN hostwatch.alerts.transition IS
    'Number of what was told of it last: 1 is its firing';
COMMENT ON COLUMN hostwatch.alerts.ended_reason IS
    'NULL for a resolved one that the operator lost sight of: its end was not told';
COMMENT ON COLUMN hostwatch.alerts.updated_at IS
    'When the operator knew this, by its clock; the row may be a minute behind';

CREATE TABLE hostwatch.notifications (
    alert_id     uuid NOT NULL,
    cluster_id   uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    delivered_at timestamptz,
    refused_at   timestamptz,
    transition   integer NOT NULL,
    inhibited    boolean NOT NULL,
    organization text NOT NULL,
    namespace    text NOT NULL,
    sink         text NOT NULL,
    payload      jsonb NOT NULL,
    PRIMARY KEY (alert_id, transition, sink)
) WITH (fillfactor = 80); -- each row is updated once

CREATE INDEX notifications_waiting ON hostwatch.notifications (cluster_id, created_at)
    WHERE delivered_at IS NULL AND refused_at IS NULL AND NOT inhibited;

COMMENT ON TABLE hostwatch.notifications IS
    'What each sink must be told, once for each transition of an alert';
COMMENT ON COLUMN hostwatch.notifications.payload IS
    'The alert as it was then';
COMMENT ON COLUMN hostwatch.notifications.refused_at IS
    'When it was given up, because the sink would never take it';
COMMENT ON COLUMN hostwatch.notifications.inhibited IS
    'Recorded only: the server was unreachable, and another alert says so';
