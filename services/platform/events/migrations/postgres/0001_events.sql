-- Events that were committed and are not yet on the bus.
CREATE TABLE outbox (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    kind    TEXT NOT NULL,
    body    BYTEA NOT NULL,
    at      TIMESTAMPTZ NOT NULL
);

-- Events that this service has taken in.
CREATE TABLE inbox (
    id      TEXT PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL
);
CREATE INDEX inbox_at ON inbox (at);

-- Events that this service could not take in, with why. A person looks at them.
CREATE TABLE dead_letter (
    id      TEXT PRIMARY KEY,
    kind    TEXT NOT NULL,
    body    BYTEA NOT NULL,
    reason  TEXT NOT NULL,
    at      TIMESTAMPTZ NOT NULL
);
