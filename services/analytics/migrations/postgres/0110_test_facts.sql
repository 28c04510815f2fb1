-- Tests as was last heard of them. A deleted one stays as a row with its version, so that a late event cannot bring it
-- back.
CREATE TABLE test_fact (
    test_id     UUID PRIMARY KEY,
    version     BIGINT NOT NULL,
    state       TEXT NOT NULL,
    deleted     BOOLEAN NOT NULL,
    taken_at    TIMESTAMPTZ NOT NULL
);

-- How many of them are in a state, changed with them.
CREATE TABLE test_count (
    state   TEXT PRIMARY KEY,
    n       BIGINT NOT NULL CHECK (n >= 0)
);
INSERT INTO test_count (state, n) VALUES
    ('draft', 0), ('red_executing', 0), ('blue_evaluating', 0), ('in_review', 0), ('validated', 0), ('rejected', 0);
