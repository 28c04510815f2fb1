-- Where knowledge comes from. The rows are there from the first start; an administrator changes them.
CREATE TABLE data_source (
    id               UUID PRIMARY KEY,
    name             TEXT COLLATE "C" NOT NULL,
    kind             TEXT NOT NULL,
    domain           TEXT NOT NULL,
    url              TEXT NOT NULL,
    enabled          BOOLEAN NOT NULL,
    schedule         TEXT,
    -- When its records last came in.
    last_sync_at     TIMESTAMPTZ,
    last_status      TEXT,
    last_error       TEXT,
    last_counts      JSONB,
    upstream_version TEXT,
    -- Of the document at `url` whose records came in last.
    etag             TEXT,
    version          BIGINT NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX data_source_name ON data_source (name);

-- Syncs, the one that runs and those that ended.
CREATE TABLE sync_job (
    id           UUID PRIMARY KEY,
    source_id    UUID NOT NULL REFERENCES data_source (id) ON DELETE CASCADE,
    source_name  TEXT NOT NULL,
    status       TEXT NOT NULL,
    phase        TEXT NOT NULL,
    percentage   DOUBLE PRECISION NOT NULL,
    counts       JSONB,
    error        TEXT,
    skipped      JSONB NOT NULL,
    started_by   TEXT NOT NULL,
    started_at   TIMESTAMPTZ NOT NULL,
    finished_at  TIMESTAMPTZ,
    -- A running one that is not heard of for long has lost its process.
    heartbeat_at TIMESTAMPTZ NOT NULL
);
-- One sync of a source at a time, whichever process runs it.
CREATE UNIQUE INDEX sync_job_running ON sync_job (source_id) WHERE status = 'running';
CREATE INDEX sync_job_finished ON sync_job (source_id, finished_at);
