-- What follows from logs. One task reads them in the order of their ids and writes this, with how far it came, in one
-- transaction. Moments are microseconds since 1970.

CREATE TABLE log_follower (
    name        TEXT PRIMARY KEY,
    -- Id of the last log that is in here.
    position    INTEGER NOT NULL,
    -- Increases with each purge: what was read before is void then.
    generation  INTEGER NOT NULL,
    -- Who does it, and until when nobody else may.
    process     BLOB,
    held_until  INTEGER NOT NULL
);
INSERT INTO log_follower (name, position, generation, process, held_until) VALUES ('logs', 0, 0, NULL, 0);

CREATE TABLE attacker (
    id                  BLOB PRIMARY KEY,
    ip                  TEXT NOT NULL UNIQUE,
    first_seen          INTEGER NOT NULL,
    last_seen           INTEGER NOT NULL,
    event_count         INTEGER NOT NULL,
    service_count       INTEGER NOT NULL,
    decky_count         INTEGER NOT NULL,
    bounty_count        INTEGER NOT NULL,
    credential_count    INTEGER NOT NULL,
    command_count       INTEGER NOT NULL,
    file_count          INTEGER NOT NULL,
    behavior_class      TEXT NOT NULL,
    os_guess            TEXT NOT NULL,
    -- Services, deckies, fingerprints, phases, figures of its timing.
    profile             TEXT NOT NULL,
    -- Small letters: what a search for a bare word looks through.
    search_text         TEXT NOT NULL
);
CREATE INDEX attacker_recent ON attacker (last_seen DESC, id DESC);
CREATE INDEX attacker_active ON attacker (event_count DESC, id DESC);
CREATE INDEX attacker_traversals ON attacker (decky_count DESC, last_seen DESC, id DESC);
CREATE INDEX attacker_behavior ON attacker (behavior_class, last_seen DESC);
CREATE INDEX attacker_os ON attacker (os_guess, last_seen DESC);

-- The gaps between events of an attacker, as `domain/behavior.rs` packs them.
CREATE TABLE attacker_timing (
    attacker_id BLOB PRIMARY KEY,
    timing      BLOB NOT NULL
);

CREATE TABLE attacker_service (
    attacker_id     BLOB NOT NULL,
    service         TEXT NOT NULL,
    command_count   INTEGER NOT NULL,
    PRIMARY KEY (attacker_id, service)
) WITHOUT ROWID;
CREATE INDEX attacker_service_of ON attacker_service (service, attacker_id);

-- What attackers are found by: deckies, event types, fingerprints, tools, techniques.
CREATE TABLE attacker_term (
    attacker_id BLOB NOT NULL,
    key         TEXT NOT NULL,
    value       TEXT NOT NULL,
    PRIMARY KEY (key, value, attacker_id)
) WITHOUT ROWID;

-- Logs that are listed with their attacker.
CREATE TABLE attacker_log (
    attacker_id BLOB NOT NULL,
    -- 1: a command or query. 2: a captured file.
    kind        INTEGER NOT NULL,
    log_id      INTEGER NOT NULL,
    service     TEXT NOT NULL,
    PRIMARY KEY (attacker_id, kind, log_id)
) WITHOUT ROWID;
CREATE INDEX attacker_log_service ON attacker_log (attacker_id, kind, service, log_id);

CREATE TABLE attacker_session (
    attacker_id     BLOB NOT NULL,
    id              TEXT NOT NULL,
    decky           TEXT NOT NULL,
    service         TEXT NOT NULL,
    started_at      INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    ended_at        INTEGER,
    event_count     INTEGER NOT NULL,
    command_count   INTEGER NOT NULL,
    username        TEXT,
    PRIMARY KEY (attacker_id, id)
) WITHOUT ROWID;
CREATE INDEX attacker_session_recent ON attacker_session (attacker_id, started_at DESC, id DESC);

CREATE TABLE bounty (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Of type, attacker and content: one row each.
    hash            BLOB NOT NULL UNIQUE,
    -- credential | fingerprint | payload
    bounty_type     TEXT NOT NULL,
    attacker_id     BLOB NOT NULL,
    attacker_ip     TEXT NOT NULL,
    decky           TEXT NOT NULL,
    service         TEXT NOT NULL,
    -- Username; kind of the fingerprint; name of the file.
    subject         TEXT NOT NULL,
    -- Password; the fingerprint; SHA-256 of the file.
    content         TEXT NOT NULL,
    -- Of a file: what else is known of it, as JSON.
    details         TEXT,
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL,
    count           INTEGER NOT NULL
);
CREATE INDEX bounty_recent ON bounty (last_seen DESC, id DESC);
CREATE INDEX bounty_type_recent ON bounty (bounty_type, last_seen DESC, id DESC);
CREATE INDEX bounty_attacker ON bounty (attacker_ip, last_seen DESC);
CREATE INDEX bounty_subject ON bounty (subject, bounty_type);
CREATE INDEX bounty_content ON bounty (content, bounty_type);
