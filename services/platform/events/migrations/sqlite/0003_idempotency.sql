-- Which changes were asked for under an Idempotency-Key, written in the transaction of the change; and what was
-- answered, once it was. The fingerprint of the request is keyed: a password in it cannot be guessed from that.
CREATE TABLE idempotency (
    key_hash     BLOB PRIMARY KEY,
    fingerprint  BLOB NOT NULL,
    claim        BLOB NOT NULL,
    entity_id    TEXT NOT NULL,
    -- The gRPC status; null until there is an answer, and for good where it must not be kept.
    code         INTEGER,
    message      TEXT NOT NULL,
    -- The message of a success, the details of an error.
    answer       BLOB,
    at           TEXT NOT NULL
);
CREATE INDEX idempotency_at ON idempotency (at);
