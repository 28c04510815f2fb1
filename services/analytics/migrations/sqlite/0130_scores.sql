-- What each part of a score counts, in hundredths of a percent. The newest version holds; the others are its history.
CREATE TABLE score_weights (
    version             INTEGER PRIMARY KEY CHECK (version >= 1),
    tests               INTEGER NOT NULL,
    detection_rules     INTEGER NOT NULL,
    d3fend              INTEGER NOT NULL,
    freshness           INTEGER NOT NULL,
    platform_diversity  INTEGER NOT NULL,
    -- Username; nobody set the first ones.
    updated_by          TEXT NOT NULL,
    updated_at          TEXT,
    CHECK (tests + detection_rules + d3fend + freshness + platform_diversity = 10000)
);
INSERT INTO score_weights (version, tests, detection_rules, d3fend, freshness, platform_diversity, updated_by)
    VALUES (1, 4000, 2000, 1500, 1500, 1000, '');

-- Coverage as it was. Nothing of a snapshot ever changes.
CREATE TABLE snapshot (
    id                   BLOB PRIMARY KEY,
    name                 TEXT NOT NULL,
    description          TEXT,
    kind                 TEXT NOT NULL CHECK (kind IN ('manual', 'scheduled')),
    -- Of a scheduled one: for when. Once for each moment.
    due_at               TEXT UNIQUE,
    created_by           BLOB,
    created_by_username  TEXT NOT NULL,
    created_at           TEXT NOT NULL,
    total                INTEGER NOT NULL,
    validated            INTEGER NOT NULL,
    partial              INTEGER NOT NULL,
    not_covered          INTEGER NOT NULL,
    in_progress          INTEGER NOT NULL,
    not_evaluated        INTEGER NOT NULL,
    -- One decimal; absent for an empty catalogue.
    score                REAL,
    -- In hundredths of a percent, in the order of score_weights.
    weights              TEXT NOT NULL,
    attack_versions      TEXT NOT NULL
);
CREATE INDEX snapshot_created ON snapshot (created_at, id);
CREATE INDEX snapshot_kind ON snapshot (kind, created_at, id);

-- The techniques of a snapshot: written once and read whole, so one document.
CREATE TABLE snapshot_state (
    snapshot_id  BLOB PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
    techniques   TEXT NOT NULL
);

-- The history of the organisation's score.
CREATE TABLE score_point (
    id                   BLOB PRIMARY KEY,
    at                   TEXT NOT NULL,
    kind                 TEXT NOT NULL CHECK (kind IN ('weekly', 'snapshot')),
    -- Of a weekly one: for when. Once for each moment.
    due_at               TEXT UNIQUE,
    -- A week's point stays when its snapshot goes.
    snapshot_id          BLOB REFERENCES snapshot (id) ON DELETE SET NULL,
    score                REAL,
    coverage_percentage  REAL NOT NULL,
    tactics              TEXT NOT NULL
);
CREATE INDEX score_point_at ON score_point (at);
CREATE INDEX score_point_snapshot ON score_point (snapshot_id);
