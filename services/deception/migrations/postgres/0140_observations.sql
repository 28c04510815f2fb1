-- Which attacker showed which ATT&CK technique. Moments are microseconds since 1970; lists are JSON.
CREATE TABLE observation (
    technique    TEXT NOT NULL,
    attacker_id  UUID NOT NULL,
    attacker_ip  TEXT NOT NULL,
    count        BIGINT NOT NULL,
    first_seen   BIGINT NOT NULL,
    last_seen    BIGINT NOT NULL,
    deckies      JSONB NOT NULL,
    services     JSONB NOT NULL,
    rules        JSONB NOT NULL,
    last_log_id  BIGINT NOT NULL,
    last_msg     TEXT NOT NULL,
    PRIMARY KEY (attacker_id, technique)
);
CREATE INDEX observation_recent ON observation (technique, last_seen DESC, attacker_id);

-- The same over all attackers. Each change has a version; what was not told yet is told within a second.
CREATE TABLE observed_technique (
    technique   TEXT PRIMARY KEY,
    count       BIGINT NOT NULL,
    attackers   BIGINT NOT NULL,
    first_seen  BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    told        BIGINT NOT NULL
);
CREATE INDEX observed_technique_untold ON observed_technique (technique) WHERE told < version;

-- What was done to show it, each text once, the newest of them.
CREATE TABLE observed_act (
    technique   TEXT NOT NULL,
    service     TEXT NOT NULL,
    act         TEXT NOT NULL,
    count       BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    PRIMARY KEY (technique, service, act)
);
CREATE INDEX observed_act_recent ON observed_act (technique, last_seen DESC);
