-- What coverage, scores, heatmaps, compliance and reports are read from.

-- Tactics in the order of the matrix with the technique: nothing is selected by tactic, all is read at once.
ALTER TABLE technique ADD COLUMN tactics JSONB NOT NULL DEFAULT '[]';
ALTER TABLE technique ADD COLUMN domain TEXT NOT NULL DEFAULT 'enterprise';
ALTER TABLE technique ADD COLUMN parent_mitre_id TEXT;
ALTER TABLE technique ADD COLUMN revoked_by TEXT;
UPDATE technique SET tactics = COALESCE(
    (SELECT jsonb_agg(tactic ORDER BY tactic) FROM technique_tactic WHERE technique_id = technique.id), '[]'::jsonb);
DROP TABLE technique_tactic;
DROP INDEX technique_active_status;

ALTER TABLE test_fact
    -- Of all that follows: so that a rebuild writes only what differs.
    ADD COLUMN digest BIGINT NOT NULL DEFAULT 0,
    -- 2 detected, 1 partially, 0 not: of a validated test with a result, of no other.
    ADD COLUMN verdict BIGINT,
    -- The newest of its chain that has a verdict.
    ADD COLUMN head BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN technique_id UUID,
    ADD COLUMN mitre_id TEXT,
    ADD COLUMN technique_name TEXT,
    ADD COLUMN name TEXT,
    ADD COLUMN platform TEXT,
    ADD COLUMN detection_result TEXT,
    ADD COLUMN attack_success BOOLEAN,
    ADD COLUMN created_by UUID,
    ADD COLUMN created_by_username TEXT,
    ADD COLUMN retest_of UUID,
    ADD COLUMN chain_id UUID,
    ADD COLUMN created_at TIMESTAMPTZ,
    ADD COLUMN updated_at TIMESTAMPTZ,
    ADD COLUMN execution_date TIMESTAMPTZ,
    ADD COLUMN executed_at TIMESTAMPTZ,
    ADD COLUMN detected_at TIMESTAMPTZ,
    ADD COLUMN responded_at TIMESTAMPTZ,
    ADD COLUMN contained_at TIMESTAMPTZ,
    ADD COLUMN red_submitted_at TIMESTAMPTZ,
    ADD COLUMN blue_submitted_at TIMESTAMPTZ,
    ADD COLUMN red_validation_status TEXT,
    ADD COLUMN red_validated_at TIMESTAMPTZ,
    ADD COLUMN blue_validation_status TEXT,
    ADD COLUMN blue_validated_at TIMESTAMPTZ,
    ADD COLUMN validated_at TIMESTAMPTZ,
    ADD COLUMN remediation_status TEXT,
    ADD COLUMN remediation_assignee UUID,
    ADD COLUMN remediation_due_date TIMESTAMPTZ,
    ADD COLUMN remediation_steps TEXT,
    ADD COLUMN remediation_completed_at TIMESTAMPTZ,
    -- When it was validated, or rejected by the first vote against it.
    ADD COLUMN decided_at TIMESTAMPTZ,
    -- Weeks from the one that began on 1970-01-05 to that of decided_at.
    ADD COLUMN decided_week BIGINT,
    -- Whole seconds, absent where one of both ends is: executed to detected, detected to remediated, detected to
    -- contained, started to submitted by red, that to submitted by blue, that to decided.
    ADD COLUMN detect_seconds BIGINT,
    ADD COLUMN remediate_seconds BIGINT,
    ADD COLUMN contain_seconds BIGINT,
    ADD COLUMN red_seconds BIGINT,
    ADD COLUMN blue_seconds BIGINT,
    ADD COLUMN review_seconds BIGINT;
-- A chain, and the results of a technique from the newest.
CREATE INDEX test_fact_chain ON test_fact (chain_id, technique_id, validated_at, test_id, head)
    WHERE verdict IS NOT NULL;
CREATE INDEX test_fact_result ON test_fact (technique_id, validated_at, test_id, head) WHERE verdict IS NOT NULL;

-- What the tests of a technique say, changed with them; the technique is known here or not yet.
CREATE TABLE technique_tests (
    technique_id       UUID NOT NULL PRIMARY KEY,
    n                  BIGINT NOT NULL,
    validated          BIGINT NOT NULL,
    -- Heads only.
    detected           BIGINT NOT NULL,
    partially_detected BIGINT NOT NULL,
    not_detected       BIGINT NOT NULL,
    last_validated_at  TIMESTAMPTZ,
    taken_at           TIMESTAMPTZ NOT NULL
);
CREATE INDEX technique_tests_taken_at ON technique_tests (taken_at);

-- Heads of a technique by platform, in lower case.
CREATE TABLE technique_platform (
    technique_id UUID NOT NULL,
    platform     TEXT NOT NULL,
    n            BIGINT NOT NULL,
    PRIMARY KEY (technique_id, platform)
);

-- What the catalogue knows besides, one row a record, with the ATT&CK ids of its techniques.
CREATE TABLE known (
    kind           TEXT NOT NULL,
    key            TEXT NOT NULL,
    id             UUID NOT NULL,
    name           TEXT NOT NULL,
    collection     TEXT NOT NULL,
    implemented    BOOLEAN NOT NULL,
    techniques     JSONB NOT NULL,
    parent         TEXT NOT NULL,
    family         TEXT NOT NULL,
    version        TEXT NOT NULL,
    attack_version TEXT NOT NULL,
    mapping_source TEXT NOT NULL,
    position       BIGINT NOT NULL,
    mitre_id       TEXT NOT NULL,
    PRIMARY KEY (kind, key)
);

-- How often a kind has been said to have changed, and how often that was when it was last pulled: all are due once.
CREATE TABLE known_kind (
    kind   TEXT NOT NULL PRIMARY KEY,
    marked BIGINT NOT NULL,
    pulled BIGINT NOT NULL
);
INSERT INTO known_kind (kind, marked, pulled) VALUES
    ('tactic', 1, 0), ('threat_actor', 1, 0), ('detection_rule', 1, 0), ('defence', 1, 0), ('framework', 1, 0),
    ('control', 1, 0);

-- Changes with what is known; with every rebuild.
ALTER TABLE meta ADD COLUMN knowledge_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
-- The rebuild that runs, and its last sign of life.
ALTER TABLE meta ADD COLUMN rebuild UUID;
ALTER TABLE meta ADD COLUMN rebuild_seen_at TIMESTAMPTZ;
-- What was here before does not know all that is asked now: the service asks the owners at its next start.
ALTER TABLE meta ADD COLUMN rebuild_due BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE meta SET rebuild_due = EXISTS (SELECT 1 FROM technique) OR EXISTS (SELECT 1 FROM test_fact);
