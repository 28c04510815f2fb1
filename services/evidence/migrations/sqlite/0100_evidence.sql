-- Files whose bytes are in the blob store.
CREATE TABLE evidence (
    id                      BLOB PRIMARY KEY,
    test_id                 BLOB NOT NULL,
    file_name               TEXT NOT NULL,
    sha256                  TEXT NOT NULL,
    size_bytes              INTEGER NOT NULL,
    team                    TEXT,
    notes                   TEXT,
    uploaded_by             BLOB NOT NULL,
    uploaded_by_username    TEXT NOT NULL,
    uploaded_at             TEXT NOT NULL,
    UNIQUE (test_id, sha256)
);
CREATE INDEX evidence_of_test ON evidence (test_id, uploaded_at, id);

-- Uploads under way: what names a blob before its evidence does. A row that is old is of a process that was killed.
CREATE TABLE upload (
    id          BLOB PRIMARY KEY,
    blob_key    TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    -- Its blob may be gone: the upload can no longer succeed.
    abandoned   BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX upload_started_at ON upload (started_at);
