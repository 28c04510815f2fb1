-- People. username_key is the username in lower case: names that differ in case only are the same.
CREATE TABLE users (
    id                    UUID PRIMARY KEY,
    username              TEXT NOT NULL,
    username_key          TEXT NOT NULL UNIQUE,
    email                 TEXT,
    role                  TEXT NOT NULL,
    password_hash         TEXT NOT NULL,
    is_active             BOOLEAN NOT NULL,
    must_change_password  BOOLEAN NOT NULL,
    -- A token of an older epoch has ended.
    token_epoch           BIGINT NOT NULL,
    version               BIGINT NOT NULL,
    created_at            TIMESTAMPTZ NOT NULL,
    updated_at            TIMESTAMPTZ NOT NULL,
    last_login_at         TIMESTAMPTZ
);
CREATE INDEX users_role ON users (role, is_active);

-- Keys that sign tokens. One signs at a time; the others verify until retire_at.
CREATE TABLE signing_key (
    kid            TEXT PRIMARY KEY,
    private_pkcs8  BYTEA NOT NULL,
    public_key     BYTEA NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    retire_at      TIMESTAMPTZ
);
CREATE UNIQUE INDEX signing_key_current ON signing_key ((retire_at IS NULL)) WHERE retire_at IS NULL;

-- What no longer holds: one token (jti), or all tokens of a user below an epoch.
CREATE TABLE revocation (
    seq         BIGINT PRIMARY KEY,
    jti         UUID,
    user_id     UUID,
    min_epoch   BIGINT NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL
);
CREATE INDEX revocation_expires_at ON revocation (expires_at);

-- The last position given. Its row is locked until the transaction ends, so positions appear in their order.
CREATE TABLE revocation_head (
    id   BIGINT PRIMARY KEY CHECK (id = 1),
    seq  BIGINT NOT NULL
);
INSERT INTO revocation_head (id, seq) VALUES (1, 0);

-- The audit trail: append-only, each record hashed over its fields and the hash before it.
CREATE TABLE audit_log (
    seq          BIGINT PRIMARY KEY,
    id           UUID NOT NULL UNIQUE,
    user_id      UUID,
    username     TEXT NOT NULL,
    action       TEXT NOT NULL,
    entity_type  TEXT NOT NULL,
    entity_id    TEXT NOT NULL,
    at           TIMESTAMPTZ NOT NULL,
    -- JSON as text: the hash is over these very bytes.
    details      TEXT NOT NULL,
    success      BOOLEAN NOT NULL,
    address      TEXT NOT NULL,
    user_agent   TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    source       TEXT NOT NULL,
    prev_hash    TEXT NOT NULL,
    hash         TEXT NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at, seq);
CREATE INDEX audit_log_user ON audit_log (user_id, at, seq);
CREATE INDEX audit_log_action ON audit_log (action, at, seq);
CREATE INDEX audit_log_entity_type ON audit_log (entity_type, at, seq);

-- Position and hash of the newest record. Locked by whoever appends, so the chain never forks.
CREATE TABLE audit_head (
    id    BIGINT PRIMARY KEY CHECK (id = 1),
    seq   BIGINT NOT NULL,
    hash  TEXT NOT NULL
);
INSERT INTO audit_head (id, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- The distinct values in audit_log, so that listing them reads a few rows.
CREATE TABLE audit_action (action TEXT PRIMARY KEY);
CREATE TABLE audit_entity_type (entity_type TEXT PRIMARY KEY);

-- One row for each recipient.
CREATE TABLE notification (
    id           UUID PRIMARY KEY,
    user_id      UUID NOT NULL REFERENCES users (id),
    kind         TEXT NOT NULL,
    title        TEXT NOT NULL,
    message      TEXT NOT NULL,
    entity_type  TEXT NOT NULL,
    entity_id    TEXT NOT NULL,
    is_read      BOOLEAN NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL
);
CREATE INDEX notification_newest ON notification (user_id, created_at, id);
CREATE INDEX notification_unread ON notification (user_id, created_at, id) WHERE NOT is_read;
