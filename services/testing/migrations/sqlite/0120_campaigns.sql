CREATE TABLE campaign (
    id                  BLOB PRIMARY KEY,
    name                TEXT NOT NULL,
    description         TEXT,
    type                TEXT NOT NULL CHECK (type IN ('custom', 'apt_emulation', 'kill_chain', 'compliance')),
    status              TEXT NOT NULL CHECK (status IN ('draft', 'active', 'completed', 'archived')),
    -- Of the catalogue, and as it was called when it was chosen.
    threat_actor_id     BLOB,
    threat_actor_name   TEXT,
    created_by          BLOB NOT NULL,
    created_by_username TEXT NOT NULL,
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL,
    schedule            TEXT,
    time_zone           TEXT,
    schedule_enabled    BOOLEAN NOT NULL,
    -- When the schedule was set: what `weekly` and its like count from.
    schedule_set_at     TEXT,
    -- Set only where it is to run: with a schedule that is enabled, of a draft or active campaign.
    next_run_at         TEXT,
    last_run_at         TEXT,
    version             INTEGER NOT NULL
);
CREATE INDEX campaign_created ON campaign (created_at DESC, id DESC);
CREATE INDEX campaign_status ON campaign (status, created_at DESC, id DESC);
CREATE INDEX campaign_type ON campaign (type, created_at DESC, id DESC);
CREATE INDEX campaign_due ON campaign (next_run_at) WHERE next_run_at IS NOT NULL;

-- The campaign's own tests, in the order of positions, which need not be without gaps. What a run creates is not here.
CREATE TABLE campaign_test (
    campaign_id BLOB NOT NULL REFERENCES campaign (id) ON DELETE CASCADE,
    test_id     BLOB NOT NULL REFERENCES test (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    phase       TEXT,
    PRIMARY KEY (campaign_id, test_id)
);
CREATE INDEX campaign_test_order ON campaign_test (campaign_id, position);
CREATE INDEX campaign_test_test ON campaign_test (test_id);

-- What ran, when, and why not.
CREATE TABLE campaign_run (
    id                  BLOB PRIMARY KEY,
    campaign_id         BLOB NOT NULL REFERENCES campaign (id) ON DELETE CASCADE,
    cause               TEXT NOT NULL CHECK (cause IN ('scheduled', 'manual')),
    -- Null for those by hand.
    due_at              TEXT,
    started_at          TEXT NOT NULL,
    -- Null for the schedule.
    started_by          BLOB,
    started_by_username TEXT NOT NULL,
    status              TEXT NOT NULL CHECK (status IN ('created', 'failed')),
    error               TEXT,
    test_count          INTEGER NOT NULL
);
CREATE INDEX campaign_run_started ON campaign_run (campaign_id, started_at DESC, id DESC);
-- A due time has one run.
CREATE UNIQUE INDEX campaign_run_due ON campaign_run (campaign_id, due_at) WHERE due_at IS NOT NULL;

-- The tests that a run created; without a test where it was deleted since.
CREATE TABLE campaign_run_test (
    run_id   BLOB NOT NULL REFERENCES campaign_run (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    test_id  BLOB REFERENCES test (id) ON DELETE SET NULL,
    phase    TEXT,
    PRIMARY KEY (run_id, position)
);
CREATE INDEX campaign_run_test_test ON campaign_run_test (test_id) WHERE test_id IS NOT NULL;
