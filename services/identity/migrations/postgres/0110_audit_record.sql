-- The audit trail in the layout that is walked fast: what was hashed is one value, beside the columns of the filters.
CREATE TABLE audit_record (
    seq          BIGINT PRIMARY KEY,
    user_id      UUID,
    action       TEXT NOT NULL,
    entity_type  TEXT NOT NULL,
    -- Microseconds since 1970.
    at_us        BIGINT NOT NULL,
    -- Parts 4 to 16 of what is hashed, each after its length; the four columns before repeat what it says.
    record       BYTEA NOT NULL,
    hash         BYTEA NOT NULL
);

-- A row that somebody damaged is taken over as it is, for the walk to find.
INSERT INTO audit_record (seq, user_id, action, entity_type, at_us, record, hash)
SELECT seq, user_id, action, entity_type, at_us,
    (
        SELECT string_agg(int8send(octet_length(part)::BIGINT) || part, ''::BYTEA ORDER BY n)
        FROM unnest(ARRAY[
            uuid_send(id),
            coalesce(uuid_send(user_id), ''::BYTEA),
            convert_to(username, 'UTF8'),
            convert_to(action, 'UTF8'),
            convert_to(entity_type, 'UTF8'),
            convert_to(entity_id, 'UTF8'),
            int8send(at_us),
            convert_to(details, 'UTF8'),
            CASE WHEN success THEN '\x01'::BYTEA ELSE '\x00'::BYTEA END,
            convert_to(address, 'UTF8'),
            convert_to(user_agent, 'UTF8'),
            convert_to(request_id, 'UTF8'),
            convert_to(source, 'UTF8')
        ]) WITH ORDINALITY AS parts (part, n)
    ),
    CASE WHEN hash ~ '^([0-9a-f]{2})*$' THEN decode(hash, 'hex') ELSE convert_to(hash, 'UTF8') END
FROM (SELECT *, round(extract(EPOCH FROM at) * 1000000)::BIGINT AS at_us FROM audit_log) AS old
ORDER BY seq;
DROP TABLE audit_log;

-- Each filter has its index in the order of the lists; the first two hold what is most often filtered on besides, so
-- that counting reads no records.
CREATE INDEX audit_record_user ON audit_record (user_id, at_us, seq, action, entity_type);
CREATE INDEX audit_record_action ON audit_record (action, at_us, seq, entity_type);
CREATE INDEX audit_record_entity_type ON audit_record (entity_type, at_us, seq);
CREATE INDEX audit_record_at ON audit_record (at_us, seq);

-- Position and hash of the newest record, as before; the hash as its 32 bytes.
ALTER TABLE audit_head ALTER COLUMN hash TYPE BYTEA
    USING CASE WHEN hash ~ '^([0-9a-f]{2})*$' THEN decode(hash, 'hex') ELSE convert_to(hash, 'UTF8') END;

-- Position and hash of the last record that retention removed: the chain goes on from here. Before the first removal,
-- position 0. The newest prune_audit_log record must say the same.
CREATE TABLE audit_anchor (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    seq    BIGINT NOT NULL,
    hash   BYTEA NOT NULL,
    -- When it was last moved, microseconds since 1970.
    at_us  BIGINT
);
INSERT INTO audit_anchor (id, seq, hash, at_us) VALUES (1, 0, decode(repeat('00', 32), 'hex'), NULL);
