-- Events that were committed and are not yet on the bus.
CREATE TABLE outbox (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL UNIQUE,
    kind    TEXT NOT NULL,
    body    BLOB NOT NULL,
    at      TEXT NOT NULL
);

-- Events that this service has taken in.
CREATE TABLE inbox (
    id      TEXT PRIMARY KEY,
    at      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX inbox_at ON inbox (at);

-- Events that this service could not take in, with why. A person looks at them.
CREATE TABLE dead_letter (
    id      TEXT PRIMARY KEY,
    kind    TEXT NOT NULL,
    body    BLOB NOT NULL,
    reason  TEXT NOT NULL,
    at      TEXT NOT NULL
);
