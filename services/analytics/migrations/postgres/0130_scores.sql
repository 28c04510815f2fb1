-- What each part of a score counts, in hundredths of a percent. The newest version holds; the others are its history.
CREATE TABLE score_weights (
    version             BIGINT PRIMARY KEY CHECK (version >= 1),
    tests               BIGINT NOT NULL,
    detection_rules     BIGINT NOT NULL,
    d3fend              BIGINT NOT NULL,
    freshness           BIGINT NOT NULL,
    platform_diversity  BIGINT NOT NULL,
    -- Username; nobody set the first ones.
    updated_by          TEXT NOT NULL,
    updated_at          TIMESTAMPTZ,
    CHECK (tests + detection_rules + d3fend + freshness + platform_diversity = 10000)
);
INSERT INTO score_weights (version, tests, detection_rules, d3fend, freshness, platform_diversity, updated_by)
    VALUES (1, 4000, 2000, 1500, 1500, 1000, '');

-- Coverage as it was. Nothing of a snapshot ever changes.
CREATE TABLE snapshot (
    id                   UUID PRIMARY KEY,
    name                 TEXT NOT NULL,
    description          TEXT,
    kind                 TEXT NOT NULL CHECK (kind IN ('manual', 'scheduled')),
    -- Of a scheduled one: for when. Once for each moment.
    due_at               TIMESTAMPTZ UNIQUE,
    created_by           UUID,
    created_by_username  TEXT NOT NULL,
    created_at           TIMESTAMPTZ NOT NULL,
    total                BIGINT NOT NULL,
    validated            BIGINT NOT NULL,
    partial              BIGINT NOT NULL,
    not_covered          BIGINT NOT NULL,
    in_progress          BIGINT NOT NULL,
    not_evaluated        BIGINT NOT NULL,
    -- One decimal; absent for an empty catalogue.
    score                DOUBLE PRECISION,
    -- In hundredths of a percent, in the order of score_weights.
    weights              JSONB NOT NULL,
    attack_versions      JSONB NOT NULL
);
CREATE INDEX snapshot_created ON snapshot (created_at, id);
CREATE INDEX snapshot_kind ON snapshot (kind, created_at, id);

-- The techniques of a snapshot: written once and read whole, so one document.
CREATE TABLE snapshot_state (
    snapshot_id  UUID PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
    techniques   JSONB NOT NULL
);

-- The history of the organisation's score.
CREATE TABLE score_point (
    id                   UUID PRIMARY KEY,
    at                   TIMESTAMPTZ NOT NULL,
    kind                 TEXT NOT NULL CHECK (kind IN ('weekly', 'snapshot')),
    -- Of a weekly one: for when. Once for each moment.
    due_at               TIMESTAMPTZ UNIQUE,
    -- A week's point stays when its snapshot goes.
    snapshot_id          UUID REFERENCES snapshot (id) ON DELETE SET NULL,
    score                DOUBLE PRECISION,
    coverage_percentage  DOUBLE PRECISION NOT NULL,
    tactics              JSONB NOT NULL
);
CREATE INDEX score_point_at ON score_point (at);
CREATE INDEX score_point_snapshot ON score_point (snapshot_id);
