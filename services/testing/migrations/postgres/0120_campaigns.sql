CREATE TABLE campaign (
    id                  UUID PRIMARY KEY,
    name                TEXT NOT NULL,
    description         TEXT,
    type                TEXT NOT NULL CHECK (type IN ('custom', 'apt_emulation', 'kill_chain', 'compliance')),
    status              TEXT NOT NULL CHECK (status IN ('draft', 'active', 'completed', 'archived')),
    -- Of the catalogue, and as it was called when it was chosen.
    threat_actor_id     UUID,
    threat_actor_name   TEXT,
    created_by          UUID NOT NULL,
    created_by_username TEXT NOT NULL,
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL,
    schedule            TEXT,
    time_zone           TEXT,
    schedule_enabled    BOOLEAN NOT NULL,
    -- When the schedule was set: what `weekly` and its like count from.
    schedule_set_at     TIMESTAMPTZ,
    -- Set only where it is to run: with a schedule that is enabled, of a draft or active campaign.
    next_run_at         TIMESTAMPTZ,
    last_run_at         TIMESTAMPTZ,
    version             BIGINT NOT NULL
);
CREATE INDEX campaign_created ON campaign (created_at DESC, id DESC);
CREATE INDEX campaign_status ON campaign (status, created_at DESC, id DESC);
CREATE INDEX campaign_type ON campaign (type, created_at DESC, id DESC);
CREATE INDEX campaign_due ON campaign (next_run_at) WHERE next_run_at IS NOT NULL;

-- The campaign's own tests, in the order of positions, which need not be without gaps. What a run creates is not here.
CREATE TABLE campaign_test (
    campaign_id UUID NOT NULL REFERENCES campaign (id) ON DELETE CASCADE,
    test_id     UUID NOT NULL REFERENCES test (id) ON DELETE CASCADE,
    position    BIGINT NOT NULL,
    phase       TEXT,
    PRIMARY KEY (campaign_id, test_id)
);
CREATE INDEX campaign_test_order ON campaign_test (campaign_id, position);
CREATE INDEX campaign_test_test ON campaign_test (test_id);

-- What ran, when, and why not.
CREATE TABLE campaign_run (
    id                  UUID PRIMARY KEY,
    campaign_id         UUID NOT NULL REFERENCES campaign (id) ON DELETE CASCADE,
    cause               TEXT NOT NULL CHECK (cause IN ('scheduled', 'manual')),
    -- Null for those by hand.
    due_at              TIMESTAMPTZ,
    started_at          TIMESTAMPTZ NOT NULL,
    -- Null for the schedule.
    started_by          UUID,
    started_by_username TEXT NOT NULL,
    status              TEXT NOT NULL CHECK (status IN ('created', 'failed')),
    error               TEXT,
    test_count          BIGINT NOT NULL
);
CREATE INDEX campaign_run_started ON campaign_run (campaign_id, started_at DESC, id DESC);
-- A due time has one run.
CREATE UNIQUE INDEX campaign_run_due ON campaign_run (campaign_id, due_at) WHERE due_at IS NOT NULL;

-- The tests that a run created; without a test where it was deleted since.
CREATE TABLE campaign_run_test (
    run_id   UUID NOT NULL REFERENCES campaign_run (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    test_id  UUID REFERENCES test (id) ON DELETE SET NULL,
    phase    TEXT,
    PRIMARY KEY (run_id, position)
);
CREATE INDEX campaign_run_test_test ON campaign_run_test (test_id) WHERE test_id IS NOT NULL;
