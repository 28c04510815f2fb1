-- Events in the order in which they came in. Nothing is searched for in here: see log_run.
CREATE TABLE log (
    id              BIGINT PRIMARY KEY,
    event_id        UUID NOT NULL,
    -- Microseconds since 1970.
    at              BIGINT NOT NULL,
    decky           TEXT NOT NULL,
    service         TEXT NOT NULL,
    event_type      TEXT NOT NULL,
    attacker_ip     TEXT NOT NULL,
    attacker_port   BIGINT NOT NULL,
    session_id      TEXT NOT NULL,
    msg             TEXT NOT NULL,
    fields          TEXT NOT NULL,
    -- ATT&CK ids with spaces between them.
    techniques      TEXT NOT NULL
);
CREATE UNIQUE INDEX log_event_id ON log (event_id);

-- One row. Ids have no gaps: there are last_id - purged_id events.
CREATE TABLE log_head (
    id              BIGINT PRIMARY KEY CHECK (id = 1),
    last_id         BIGINT NOT NULL,
    purged_id       BIGINT NOT NULL
);
INSERT INTO log_head (id, last_id, purged_id) VALUES (1, 0, 0);

-- How many events happened in a minute since 1970.
CREATE TABLE log_minute (
    minute          BIGINT PRIMARY KEY,
    count           BIGINT NOT NULL
);

-- What of a sensor's events is stored.
CREATE TABLE intake_mark (
    sensor_id       UUID PRIMARY KEY,
    sequence        BIGINT NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL
);

-- Runs of events that are searched by what occurs in them.
CREATE TABLE log_run (
    run             BIGINT PRIMARY KEY,
    first_id        BIGINT NOT NULL,
    last_id         BIGINT NOT NULL,
    min_at          BIGINT NOT NULL,
    max_at          BIGINT NOT NULL,
    times           BYTEA NOT NULL
);
CREATE TABLE log_word (
    run             BIGINT PRIMARY KEY,
    words           BYTEA NOT NULL
);
-- The place is the part of all terms (by the first byte of their hash), then the run.
CREATE TABLE log_term (
    place           BIGINT PRIMARY KEY,
    places          BYTEA NOT NULL
);

-- Files that attackers brought, and recorded sessions. The bytes are in the blob store, once for each hash.
CREATE TABLE artifact (
    id              UUID PRIMARY KEY,
    kind            TEXT NOT NULL,
    decky           TEXT NOT NULL,
    stored_as       TEXT NOT NULL,
    service         TEXT NOT NULL,
    attacker_ip     TEXT NOT NULL,
    session_id      TEXT NOT NULL,
    name            TEXT NOT NULL,
    sha256          TEXT NOT NULL,
    size            BIGINT NOT NULL,
    captured_at     TIMESTAMPTZ NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX artifact_stored_as ON artifact (decky, stored_as);
CREATE INDEX artifact_session ON artifact (session_id, kind);

-- Nothing is gained by packing them.
ALTER TABLE log_run ALTER COLUMN times SET STORAGE EXTERNAL;
ALTER TABLE log_term ALTER COLUMN places SET STORAGE EXTERNAL;
