-- The audit trail in the layout that is walked fast: what was hashed is one value, beside the columns of the filters.
CREATE TABLE audit_record (
    seq          INTEGER PRIMARY KEY,
    user_id      BLOB,
    action       TEXT NOT NULL,
    entity_type  TEXT NOT NULL,
    -- Microseconds since 1970.
    at_us        INTEGER NOT NULL,
    -- Parts 4 to 16 of what is hashed, each after its length; the four columns before repeat what it says.
    record       BLOB NOT NULL,
    hash         BLOB NOT NULL
) STRICT;

-- Concatenation keeps every byte, zeros too, and calls the result text: hence the last cast. A row that somebody
-- damaged is taken over as it is, for the walk to find.
INSERT INTO audit_record (seq, user_id, action, entity_type, at_us, record, hash)
SELECT seq, user_id, action, entity_type, at_us,
    CAST(
        unhex(printf('%016x', octet_length(id))) || id
        || unhex(printf('%016x', octet_length(coalesce(user_id, x'')))) || coalesce(user_id, x'')
        || unhex(printf('%016x', octet_length(username))) || username
        || unhex(printf('%016x', octet_length(action))) || action
        || unhex(printf('%016x', octet_length(entity_type))) || entity_type
        || unhex(printf('%016x', octet_length(entity_id))) || entity_id
        || unhex('0000000000000008') || unhex(printf('%016x', at_us))
        || unhex(printf('%016x', octet_length(details))) || details
        || unhex('0000000000000001') || CASE WHEN success THEN x'01' ELSE x'00' END
        || unhex(printf('%016x', octet_length(address))) || address
        || unhex(printf('%016x', octet_length(user_agent))) || user_agent
        || unhex(printf('%016x', octet_length(request_id))) || request_id
        || unhex(printf('%016x', octet_length(source))) || source
    AS BLOB),
    coalesce(unhex(hash), CAST(hash AS BLOB))
FROM (
    SELECT *,
        -- A moment is text: 2024-01-31T12:00:00.123456+00:00, with 0, 3, 6 or 9 digits after the point.
        coalesce(CAST(strftime('%s', substr(at, 1, 19)) AS INTEGER) * 1000000
            + CAST(substr(CASE WHEN substr(at, 20, 1) = '.' THEN substr(at, 21, instr(at, '+') - 21) ELSE '' END
                || '000000', 1, 6) AS INTEGER), 0) AS at_us
    FROM audit_log
)
ORDER BY seq;
DROP TABLE audit_log;

-- Each filter has its index in the order of the lists; the first two hold what is most often filtered on besides, so
-- that counting reads no records.
CREATE INDEX audit_record_user ON audit_record (user_id, at_us, seq, action, entity_type);
CREATE INDEX audit_record_action ON audit_record (action, at_us, seq, entity_type);
CREATE INDEX audit_record_entity_type ON audit_record (entity_type, at_us, seq);
CREATE INDEX audit_record_at ON audit_record (at_us, seq);

-- Position and hash of the newest record, as before; the hash as its 32 bytes.
ALTER TABLE audit_head RENAME TO audit_head_hex;
CREATE TABLE audit_head (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    seq   INTEGER NOT NULL,
    hash  BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (id, seq, hash) SELECT id, seq, coalesce(unhex(hash), CAST(hash AS BLOB)) FROM audit_head_hex;
DROP TABLE audit_head_hex;

-- Position and hash of the last record that retention removed: the chain goes on from here. Before the first removal,
-- position 0. The newest prune_audit_log record must say the same.
CREATE TABLE audit_anchor (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    seq    INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    -- When it was last moved, microseconds since 1970.
    at_us  INTEGER
) STRICT;
INSERT INTO audit_anchor (id, seq, hash, at_us) VALUES (1, 0, zeroblob(32), NULL);
