-- Which attacker showed which ATT&CK technique. Moments are microseconds since 1970; lists are JSON.
CREATE TABLE observation (
    technique    TEXT NOT NULL,
    attacker_id  BLOB NOT NULL,
    attacker_ip  TEXT NOT NULL,
    count        INTEGER NOT NULL,
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER NOT NULL,
    deckies      TEXT NOT NULL,
    services     TEXT NOT NULL,
    rules        TEXT NOT NULL,
    last_log_id  INTEGER NOT NULL,
    last_msg     TEXT NOT NULL,
    PRIMARY KEY (attacker_id, technique)
) WITHOUT ROWID;
CREATE INDEX observation_recent ON observation (technique, last_seen DESC, attacker_id);

-- The same over all attackers. Each change has a version; what was not told yet is told within a second.
CREATE TABLE observed_technique (
    technique   TEXT PRIMARY KEY,
    count       INTEGER NOT NULL,
    attackers   INTEGER NOT NULL,
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    told        INTEGER NOT NULL
);
CREATE INDEX observed_technique_untold ON observed_technique (technique) WHERE told < version;

-- What was done to show it, each text once, the newest of them.
CREATE TABLE observed_act (
    technique   TEXT NOT NULL,
    service     TEXT NOT NULL,
    act         TEXT NOT NULL,
    count       INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    PRIMARY KEY (technique, service, act)
) WITHOUT ROWID;
CREATE INDEX observed_act_recent ON observed_act (technique, last_seen DESC);
