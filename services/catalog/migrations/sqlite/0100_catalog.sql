-- Techniques of the ATT&CK matrix. The JSON columns keep the publisher's order and spelling; what is filtered is in
-- the two tables after it.
CREATE TABLE technique (
    id               BLOB PRIMARY KEY,
    mitre_id         TEXT NOT NULL,
    domain           TEXT NOT NULL,
    name             TEXT NOT NULL,
    description      TEXT,
    url              TEXT,
    is_subtechnique  BOOLEAN NOT NULL,
    parent_mitre_id  TEXT,
    attack_version   TEXT,
    platforms        TEXT NOT NULL,
    tactics          TEXT NOT NULL,
    status_computed  TEXT NOT NULL,
    status_override  TEXT,
    review_required  BOOLEAN NOT NULL,
    last_reviewed_at TEXT,
    last_reviewed_by TEXT,
    revoked          BOOLEAN NOT NULL,
    revoked_by       TEXT,
    deprecated       BOOLEAN NOT NULL,
    source           TEXT NOT NULL,
    stix_id          TEXT,
    content_hash     BLOB,
    -- Bits of the content fields that a person set: a sync leaves those alone.
    person_set       INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL
);
CREATE UNIQUE INDEX technique_mitre_id ON technique (mitre_id, domain);
CREATE INDEX technique_domain ON technique (domain);
CREATE INDEX technique_status ON technique (COALESCE(status_override, status_computed));
CREATE INDEX technique_review ON technique (review_required, mitre_id);

CREATE TABLE technique_tactic (
    technique_id BLOB NOT NULL REFERENCES technique (id) ON DELETE CASCADE,
    tactic       TEXT NOT NULL,
    ordinal      INTEGER NOT NULL,
    PRIMARY KEY (technique_id, tactic)
) WITHOUT ROWID;
CREATE INDEX technique_tactic_tactic ON technique_tactic (tactic, technique_id);

CREATE TABLE technique_platform (
    technique_id BLOB NOT NULL REFERENCES technique (id) ON DELETE CASCADE,
    -- Lower case.
    platform     TEXT NOT NULL,
    PRIMARY KEY (technique_id, platform)
) WITHOUT ROWID;
CREATE INDEX technique_platform_platform ON technique_platform (platform, technique_id);

CREATE TABLE tactic (
    id         BLOB PRIMARY KEY,
    mitre_id   TEXT NOT NULL,
    short_name TEXT NOT NULL,
    name       TEXT NOT NULL,
    domain     TEXT NOT NULL,
    position   INTEGER NOT NULL,
    deprecated BOOLEAN NOT NULL,
    source     TEXT NOT NULL,
    stix_id    TEXT
);
CREATE UNIQUE INDEX tactic_mitre_id ON tactic (domain, mitre_id);
CREATE INDEX tactic_short_name ON tactic (domain, short_name);

-- What technique statuses are computed from: the last that was heard of each test. A deleted test stays as a mark,
-- so that an older event that comes after does not bring it back.
CREATE TABLE test_fact (
    test_id          BLOB PRIMARY KEY,
    version          INTEGER NOT NULL,
    technique_id     BLOB NOT NULL,
    state            TEXT NOT NULL,
    detection_result TEXT NOT NULL,
    chain_id         BLOB NOT NULL,
    validated_at     TEXT,
    deleted          BOOLEAN NOT NULL,
    received_at      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX test_fact_technique ON test_fact (technique_id);

CREATE TABLE template (
    id                    BLOB PRIMARY KEY,
    name                  TEXT NOT NULL,
    description           TEXT,
    source                TEXT NOT NULL,
    source_id             TEXT NOT NULL,
    mitre_technique_id    TEXT NOT NULL,
    -- Lower case.
    platform              TEXT,
    severity              TEXT NOT NULL,
    attack_procedure      TEXT,
    tool_suggested        TEXT,
    suggested_remediation TEXT,
    expected_detection    TEXT,
    cleanup_procedure     TEXT,
    is_active             BOOLEAN NOT NULL,
    version               INTEGER NOT NULL,
    created_at            TEXT NOT NULL,
    updated_at            TEXT NOT NULL
);
CREATE UNIQUE INDEX template_source ON template (source, source_id);
CREATE INDEX template_order ON template (mitre_technique_id, name, id);
CREATE INDEX template_platform ON template (platform);
CREATE INDEX template_severity ON template (severity);
CREATE INDEX template_active ON template (is_active);
