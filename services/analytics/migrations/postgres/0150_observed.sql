-- Techniques that attackers showed on decoys, as deception last told of them: of each the newest version stays.
CREATE TABLE observed (
    mitre_id    TEXT NOT NULL PRIMARY KEY,
    count       BIGINT NOT NULL,
    attackers   BIGINT NOT NULL,
    first_seen  TIMESTAMPTZ,
    last_seen   TIMESTAMPTZ,
    version     BIGINT NOT NULL
);

-- Changes with it.
ALTER TABLE meta ADD COLUMN observed_revision BIGINT NOT NULL DEFAULT 0;
