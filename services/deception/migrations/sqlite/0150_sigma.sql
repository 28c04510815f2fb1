-- The catalogue's Sigma rules for what decoys see, as they were when they were last asked for: every process of deception
-- reads them here.
CREATE TABLE sigma_rule (
    key         TEXT PRIMARY KEY,
    id          BLOB NOT NULL,
    -- The catalogue's.
    version     INTEGER NOT NULL,
    name        TEXT NOT NULL,
    author      TEXT NOT NULL,
    licence     TEXT NOT NULL,
    -- Empty where it is too long to be used.
    content     TEXT NOT NULL
);

-- How often rules changed there (wanted), which of that is in here (taken), and how often the table changed (generation).
CREATE TABLE sigma_state (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    wanted      INTEGER NOT NULL,
    taken       INTEGER NOT NULL,
    generation  INTEGER NOT NULL
);
INSERT INTO sigma_state (id, wanted, taken, generation) VALUES (1, 1, 0, 0);
