-- What coverage, scores, heatmaps, compliance and reports are read from.

-- Tactics in the order of the matrix with the technique: nothing is selected by tactic, all is read at once.
ALTER TABLE technique ADD COLUMN tactics TEXT NOT NULL DEFAULT '[]';
ALTER TABLE technique ADD COLUMN domain TEXT NOT NULL DEFAULT 'enterprise';
ALTER TABLE technique ADD COLUMN parent_mitre_id TEXT;
ALTER TABLE technique ADD COLUMN revoked_by TEXT;
UPDATE technique SET tactics = COALESCE(
    (SELECT json_group_array(tactic) FROM technique_tactic WHERE technique_id = technique.id), '[]');
DROP TABLE technique_tactic;
DROP INDEX technique_active_status;

-- Tests as was last heard of them. A deleted one stays as a row with its version, so that a late event cannot bring it
-- back. Rows lie in the order in which they came: what reads all of them reads the file from front to back.
CREATE TABLE test_fact_next (
    test_id                  BLOB NOT NULL PRIMARY KEY,
    version                  INTEGER NOT NULL,
    state                    TEXT NOT NULL,
    deleted                  BOOLEAN NOT NULL,
    taken_at                 TEXT NOT NULL,
    -- Of all that follows: so that a rebuild writes only what differs.
    digest                   INTEGER NOT NULL DEFAULT 0,
    -- 2 detected, 1 partially, 0 not: of a validated test with a result, of no other.
    verdict                  INTEGER,
    -- The newest of its chain that has a verdict.
    head                     BOOLEAN NOT NULL DEFAULT FALSE,
    technique_id             BLOB,
    chain_id                 BLOB,
    retest_of                BLOB,
    created_by               BLOB,
    remediation_assignee     BLOB,
    -- Weeks from the one that began on 1970-01-05 to that of decided_at.
    decided_week             INTEGER,
    -- Whole seconds, absent where one of both ends is: executed to detected, detected to remediated, detected to
    -- contained, started to submitted by red, that to submitted by blue, that to decided.
    detect_seconds           INTEGER,
    remediate_seconds        INTEGER,
    contain_seconds          INTEGER,
    red_seconds              INTEGER,
    blue_seconds             INTEGER,
    review_seconds           INTEGER,
    attack_success           BOOLEAN,
    created_at               TEXT,
    updated_at               TEXT,
    execution_date           TEXT,
    executed_at              TEXT,
    detected_at              TEXT,
    responded_at             TEXT,
    contained_at             TEXT,
    red_submitted_at         TEXT,
    blue_submitted_at        TEXT,
    red_validated_at         TEXT,
    blue_validated_at        TEXT,
    validated_at             TEXT,
    -- When it was validated, or rejected by the first vote against it.
    decided_at               TEXT,
    remediation_due_date     TEXT,
    remediation_completed_at TEXT,
    red_validation_status    TEXT,
    blue_validation_status   TEXT,
    detection_result         TEXT,
    remediation_status       TEXT,
    platform                 TEXT,
    mitre_id                 TEXT,
    created_by_username      TEXT,
    technique_name           TEXT,
    name                     TEXT,
    -- Long: nothing that is read without it lies behind it.
    remediation_steps        TEXT
);
INSERT INTO test_fact_next (test_id, version, state, deleted, taken_at)
    SELECT test_id, version, state, deleted, taken_at FROM test_fact ORDER BY test_id;
DROP TABLE test_fact;
ALTER TABLE test_fact_next RENAME TO test_fact;
-- A chain, and the results of a technique from the newest.
CREATE INDEX test_fact_chain ON test_fact (chain_id, technique_id, validated_at, test_id, head)
    WHERE verdict IS NOT NULL;
CREATE INDEX test_fact_result ON test_fact (technique_id, validated_at, test_id, head) WHERE verdict IS NOT NULL;

-- What the tests of a technique say, changed with them; the technique is known here or not yet.
CREATE TABLE technique_tests (
    technique_id       BLOB NOT NULL PRIMARY KEY,
    n                  INTEGER NOT NULL,
    validated          INTEGER NOT NULL,
    -- Heads only.
    detected           INTEGER NOT NULL,
    partially_detected INTEGER NOT NULL,
    not_detected       INTEGER NOT NULL,
    last_validated_at  TEXT,
    taken_at           TEXT NOT NULL
);
CREATE INDEX technique_tests_taken_at ON technique_tests (taken_at);

-- Heads of a technique by platform, in lower case.
CREATE TABLE technique_platform (
    technique_id BLOB NOT NULL,
    platform     TEXT NOT NULL,
    n            INTEGER NOT NULL,
    PRIMARY KEY (technique_id, platform)
) WITHOUT ROWID;

-- What the catalogue knows besides, one row a record, with the ATT&CK ids of its techniques.
CREATE TABLE known (
    kind           TEXT NOT NULL,
    key            TEXT NOT NULL,
    id             BLOB NOT NULL,
    name           TEXT NOT NULL,
    collection     TEXT NOT NULL,
    implemented    BOOLEAN NOT NULL,
    techniques     TEXT NOT NULL,
    parent         TEXT NOT NULL,
    family         TEXT NOT NULL,
    version        TEXT NOT NULL,
    attack_version TEXT NOT NULL,
    mapping_source TEXT NOT NULL,
    position       INTEGER NOT NULL,
    mitre_id       TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;

-- How often a kind has been said to have changed, and how often that was when it was last pulled: all are due once.
CREATE TABLE known_kind (
    kind   TEXT NOT NULL PRIMARY KEY,
    marked INTEGER NOT NULL,
    pulled INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO known_kind (kind, marked, pulled) VALUES
    ('tactic', 1, 0), ('threat_actor', 1, 0), ('detection_rule', 1, 0), ('defence', 1, 0), ('framework', 1, 0),
    ('control', 1, 0);

-- Changes with what is known; with every rebuild.
ALTER TABLE meta ADD COLUMN knowledge_revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
-- The rebuild that runs, and its last sign of life.
ALTER TABLE meta ADD COLUMN rebuild BLOB;
ALTER TABLE meta ADD COLUMN rebuild_seen_at TEXT;
-- What was here before does not know all that is asked now: the service asks the owners at its next start.
ALTER TABLE meta ADD COLUMN rebuild_due BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE meta SET rebuild_due = EXISTS (SELECT 1 FROM technique) OR EXISTS (SELECT 1 FROM test_fact);
