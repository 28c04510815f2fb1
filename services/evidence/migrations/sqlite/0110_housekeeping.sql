-- Tests that evidence was brought to. Whoever adds evidence to a test, or takes all of it away with the test, holds
-- its row: they do so one after the other, and what comes after the end of a test finds that out.
CREATE TABLE test (
    id          BLOB PRIMARY KEY,
    deleted     BOOLEAN NOT NULL DEFAULT FALSE
);

-- In the order of the keys of blobs, beside which rows are walked through.
CREATE INDEX evidence_by_key ON evidence (test_id, id);

-- The one row: who looks at the whole store at present, and what the last look found.
CREATE TABLE store_look (
    id                  INTEGER PRIMARY KEY CHECK (id = 1),
    holder              BLOB,
    held_until          TEXT,
    checked_at          TEXT,
    files               INTEGER NOT NULL DEFAULT 0,
    bytes               INTEGER NOT NULL DEFAULT 0,
    collected           INTEGER NOT NULL DEFAULT 0,
    collected_bytes     INTEGER NOT NULL DEFAULT 0,
    broken              TEXT NOT NULL DEFAULT '[]',
    broken_total        INTEGER NOT NULL DEFAULT 0
);
INSERT INTO store_look (id) VALUES (1);
