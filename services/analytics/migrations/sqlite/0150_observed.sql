-- Techniques that attackers showed on decoys, as deception last told of them: of each the newest version stays.
CREATE TABLE observed (
    mitre_id    TEXT NOT NULL PRIMARY KEY,
    count       INTEGER NOT NULL,
    attackers   INTEGER NOT NULL,
    first_seen  TEXT,
    last_seen   TEXT,
    version     INTEGER NOT NULL
) WITHOUT ROWID;

-- Changes with it.
ALTER TABLE meta ADD COLUMN observed_revision INTEGER NOT NULL DEFAULT 0;
