-- What is remembered of an attacker to see what several of its events show together; JSON, bounded. Moments are
-- microseconds since 1970.
CREATE TABLE attacker_track (
    attacker_id  BLOB PRIMARY KEY,
    last_at      INTEGER NOT NULL,
    track        TEXT NOT NULL
);
CREATE INDEX attacker_track_last ON attacker_track (last_at);
