-- Techniques as the catalogue last told of them. A deleted one stays as a row with its version, so that a late
-- event cannot bring it back.
CREATE TABLE technique (
    id          UUID PRIMARY KEY,
    mitre_id    TEXT NOT NULL,
    name        TEXT NOT NULL,
    status      TEXT NOT NULL,
    active      BOOLEAN NOT NULL,
    deleted     BOOLEAN NOT NULL,
    platforms   JSONB NOT NULL,
    version     BIGINT NOT NULL,
    taken_at    TIMESTAMPTZ NOT NULL
);
CREATE INDEX technique_active_status ON technique (active, status);
CREATE INDEX technique_taken_at ON technique (taken_at);

CREATE TABLE technique_tactic (
    technique_id    UUID NOT NULL REFERENCES technique (id) ON DELETE CASCADE,
    tactic          TEXT NOT NULL,
    PRIMARY KEY (technique_id, tactic)
);
CREATE INDEX technique_tactic_tactic ON technique_tactic (tactic);

-- One row: when the projection last took something in.
CREATE TABLE meta (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    as_of   TIMESTAMPTZ
);
INSERT INTO meta (id, as_of) VALUES (1, NULL);
