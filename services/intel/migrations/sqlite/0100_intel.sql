-- Where knowledge comes from. The rows are there from the first start; an administrator changes them.
CREATE TABLE data_source (
    id               BLOB PRIMARY KEY,
    name             TEXT NOT NULL,
    kind             TEXT NOT NULL,
    domain           TEXT NOT NULL,
    url              TEXT NOT NULL,
    enabled          BOOLEAN NOT NULL,
    schedule         TEXT,
    -- When its records last came in.
    last_sync_at     TEXT,
    last_status      TEXT,
    last_error       TEXT,
    last_counts      TEXT,
    upstream_version TEXT,
    -- Of the document at `url` whose records came in last.
    etag             TEXT,
    version          INTEGER NOT NULL,
    updated_at       TEXT NOT NULL
);
CREATE UNIQUE INDEX data_source_name ON data_source (name);

-- Syncs, the one that runs and those that ended.
CREATE TABLE sync_job (
    id           BLOB PRIMARY KEY,
    source_id    BLOB NOT NULL REFERENCES data_source (id) ON DELETE CASCADE,
    source_name  TEXT NOT NULL,
    status       TEXT NOT NULL,
    phase        TEXT NOT NULL,
    percentage   REAL NOT NULL,
    counts       TEXT,
    error        TEXT,
    skipped      TEXT NOT NULL,
    started_by   TEXT NOT NULL,
    started_at   TEXT NOT NULL,
    finished_at  TEXT,
    -- A running one that is not heard of for long has lost its process.
    heartbeat_at TEXT NOT NULL
);
-- One sync of a source at a time, whichever process runs it.
CREATE UNIQUE INDEX sync_job_running ON sync_job (source_id) WHERE status = 'running';
CREATE INDEX sync_job_finished ON sync_job (source_id, finished_at);
