-- Alerts and those who may scan without one. Moments of alerts are microseconds since 1970.

CREATE TABLE alert (
    id              BLOB PRIMARY KEY,
    -- first_contact | credential_works | file_captured | traversal
    kind            TEXT NOT NULL,
    -- Nothing where it stands for many attackers.
    attacker_id     BLOB,
    attacker_ip     TEXT NOT NULL,
    -- JSON
    deckies         TEXT NOT NULL,
    -- What raised it.
    detail          TEXT NOT NULL,
    count           INTEGER NOT NULL,
    -- Attackers that it stands for.
    attackers       INTEGER NOT NULL,
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
);
CREATE INDEX alert_open ON alert (attacker_id, last_seen);

CREATE TABLE approved_scanner (
    id              BLOB PRIMARY KEY,
    name            TEXT NOT NULL,
    network         TEXT NOT NULL,
    -- JSON
    ports           TEXT NOT NULL,
    starts_at       TEXT,
    ends_at         TEXT,
    created_by      TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    version         INTEGER NOT NULL
);
CREATE INDEX approved_scanner_name ON approved_scanner (name, id);
