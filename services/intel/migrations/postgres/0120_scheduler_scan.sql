-- Who leads: one row, held by the process that renews it in time.
CREATE TABLE scheduler_lease (
    name       TEXT PRIMARY KEY,
    process    UUID NOT NULL,
    -- What the process is called, for people.
    holder     TEXT NOT NULL,
    held_until TIMESTAMPTZ NOT NULL,
    -- Grows with every new leader.
    term       BIGINT NOT NULL
);

-- What is planned. A job without a row is not planned: it is switched off, or has no schedule.
CREATE TABLE scheduled_job (
    id          TEXT PRIMARY KEY,
    -- What next_due_at was reckoned from; another one reckons it anew.
    schedule    TEXT NOT NULL,
    time_zone   TEXT NOT NULL,
    next_due_at TIMESTAMPTZ NOT NULL
);

-- Runs, those that run and those that ended.
CREATE TABLE scheduled_run (
    id           UUID PRIMARY KEY,
    job_id       TEXT NOT NULL,
    due_at       TIMESTAMPTZ NOT NULL,
    started_at   TIMESTAMPTZ NOT NULL,
    finished_at  TIMESTAMPTZ,
    status       TEXT NOT NULL,
    error        TEXT,
    missed       BOOLEAN NOT NULL,
    -- A running one that is not heard of for long has lost its process.
    heartbeat_at TIMESTAMPTZ NOT NULL
);
-- Never twice for one due time, whatever the leaders think of one another.
CREATE UNIQUE INDEX scheduled_run_due ON scheduled_run (job_id, due_at);
CREATE UNIQUE INDEX scheduled_run_running ON scheduled_run (job_id) WHERE status = 'running';
CREATE INDEX scheduled_run_started ON scheduled_run (started_at);

-- What CISA lists as exploited.
CREATE TABLE kev_entry (
    cve             TEXT PRIMARY KEY,
    vendor          TEXT NOT NULL,
    product         TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    required_action TEXT NOT NULL,
    date_added      DATE NOT NULL,
    due_date        DATE,
    ransomware      BOOLEAN NOT NULL,
    cwes            JSONB NOT NULL,
    -- False when it vanished from the list.
    listed          BOOLEAN NOT NULL,
    content_hash    BYTEA NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL
);

-- News feeds that an administrator named.
CREATE TABLE feed (
    id           UUID PRIMARY KEY,
    name         TEXT COLLATE "C" NOT NULL,
    url          TEXT NOT NULL,
    enabled      BOOLEAN NOT NULL,
    last_read_at TIMESTAMPTZ,
    last_error   TEXT,
    -- Of the document at `url` whose items came in last.
    etag         TEXT,
    version      BIGINT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX feed_name ON feed (name);

-- Something new in the world: an entry of KEV, or of a feed.
CREATE TABLE item (
    id           UUID PRIMARY KEY,
    kind         TEXT NOT NULL,
    feed_id      UUID REFERENCES feed (id) ON DELETE CASCADE,
    external_id  TEXT NOT NULL,
    title        TEXT NOT NULL,
    summary      TEXT NOT NULL,
    url          TEXT,
    published_at TIMESTAMPTZ,
    found_at     TIMESTAMPTZ NOT NULL,
    -- When its feed last had it, give or take a day.
    seen_at      TIMESTAMPTZ NOT NULL,
    -- When it was compared with what is known; absent until the techniques that it names are flagged.
    matched_at   TIMESTAMPTZ,
    match_count  BIGINT NOT NULL,
    reviewed     BOOLEAN NOT NULL,
    reviewed_by  TEXT NOT NULL,
    reviewed_at  TIMESTAMPTZ,
    version      BIGINT NOT NULL
);
CREATE UNIQUE INDEX item_of_kev ON item (external_id) WHERE feed_id IS NULL;
CREATE UNIQUE INDEX item_of_feed ON item (feed_id, external_id) WHERE feed_id IS NOT NULL;
CREATE INDEX item_newest ON item (found_at, id);
CREATE INDEX item_feed_newest ON item (feed_id, found_at, id);
CREATE INDEX item_unmatched ON item (id) WHERE matched_at IS NULL;

-- Why an item matters here.
CREATE TABLE item_match (
    item_id    UUID NOT NULL REFERENCES item (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    name       TEXT NOT NULL,
    matched_by TEXT NOT NULL,
    text       TEXT NOT NULL,
    PRIMARY KEY (item_id, kind, key)
);
CREATE INDEX item_match_key ON item_match (kind, key, item_id);
