-- Alerts and those who may scan without one. Moments of alerts are microseconds since 1970.

CREATE TABLE alert (
    id              UUID PRIMARY KEY,
    -- first_contact | credential_works | file_captured | traversal
    kind            TEXT NOT NULL,
    -- Nothing where it stands for many attackers.
    attacker_id     UUID,
    attacker_ip     TEXT NOT NULL,
    -- JSON
    deckies         JSONB NOT NULL,
    -- What raised it.
    detail          TEXT NOT NULL,
    count           BIGINT NOT NULL,
    -- Attackers that it stands for.
    attackers       BIGINT NOT NULL,
    first_seen      BIGINT NOT NULL,
    last_seen       BIGINT NOT NULL
);
CREATE INDEX alert_open ON alert (attacker_id, last_seen);

CREATE TABLE approved_scanner (
    id              UUID PRIMARY KEY,
    name            TEXT NOT NULL,
    network         TEXT NOT NULL,
    -- JSON
    ports           JSONB NOT NULL,
    starts_at       TIMESTAMPTZ,
    ends_at         TIMESTAMPTZ,
    created_by      TEXT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    version         BIGINT NOT NULL
);
CREATE INDEX approved_scanner_name ON approved_scanner (name, id);
