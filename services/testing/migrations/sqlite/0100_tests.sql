CREATE TABLE test (
    id                       BLOB PRIMARY KEY,
    -- The technique as it was called when the test was made.
    technique_id             BLOB NOT NULL,
    mitre_id                 TEXT NOT NULL,
    technique_name           TEXT NOT NULL,
    name                     TEXT NOT NULL,
    description              TEXT,
    platform                 TEXT,
    procedure_text           TEXT,
    tool_used                TEXT,
    template_id              BLOB,
    state                    TEXT NOT NULL
        CHECK (state IN ('draft', 'red_executing', 'blue_evaluating', 'in_review', 'validated', 'rejected')),
    created_by               BLOB NOT NULL,
    created_by_username      TEXT NOT NULL,
    created_at               TEXT NOT NULL,
    updated_at               TEXT NOT NULL,
    execution_date           TEXT,
    executed_by              BLOB,
    attack_success           BOOLEAN,
    red_summary              TEXT,
    -- Each `*_source`: typed, imported or stamped.
    executed_at              TEXT,
    executed_at_source       TEXT,
    detection_result         TEXT
        CHECK (detection_result IN ('detected', 'partially_detected', 'not_detected')),
    blue_summary             TEXT,
    detected_at              TEXT,
    detected_at_source       TEXT,
    responded_at             TEXT,
    responded_at_source      TEXT,
    contained_at             TEXT,
    contained_at_source      TEXT,
    red_validation_status    TEXT NOT NULL CHECK (red_validation_status IN ('pending', 'approved', 'rejected')),
    red_validation_notes     TEXT,
    red_validated_by         BLOB,
    red_validated_at         TEXT,
    blue_validation_status   TEXT NOT NULL CHECK (blue_validation_status IN ('pending', 'approved', 'rejected')),
    blue_validation_notes    TEXT,
    blue_validated_by        BLOB,
    blue_validated_at        TEXT,
    validated_at             TEXT,
    remediation_steps        TEXT,
    remediation_status       TEXT
        CHECK (remediation_status IN ('pending', 'in_progress', 'completed', 'not_applicable')),
    remediation_assignee     BLOB,
    remediation_completed_at TEXT,
    retest_of                BLOB REFERENCES test (id),
    chain_id                 BLOB NOT NULL,
    version                  INTEGER NOT NULL
);
CREATE INDEX test_created ON test (created_at DESC, id DESC);
-- Also for tests that wait for a vote: they are those in review, and each waits for one side at least.
CREATE INDEX test_state ON test (state, created_at DESC, id DESC);
CREATE INDEX test_technique ON test (technique_id, created_at DESC, id DESC);
CREATE INDEX test_platform ON test (platform, created_at DESC, id DESC);
CREATE INDEX test_created_by ON test (created_by, created_at DESC, id DESC);

-- What happened to a test, one row a transition, edit, vote, evidence or comment.
CREATE TABLE timeline (
    id       BLOB PRIMARY KEY,
    test_id  BLOB NOT NULL REFERENCES test (id) ON DELETE CASCADE,
    at       TEXT NOT NULL,
    kind     TEXT NOT NULL,
    -- Null for background work.
    actor_id BLOB,
    actor    TEXT NOT NULL,
    details  TEXT NOT NULL
);
CREATE INDEX timeline_test ON timeline (test_id, at, id);
