-- A position that grows with every commit, so that who has seen one has seen all before it.
ALTER TABLE notification ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
UPDATE notification SET seq = numbered.n
FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY created_at, id) AS n FROM notification) AS numbered
WHERE numbered.id = notification.id;
CREATE UNIQUE INDEX notification_seq ON notification (seq);
CREATE INDEX notification_user_seq ON notification (user_id, seq);
-- For what is old.
CREATE INDEX notification_age ON notification (created_at);
CREATE INDEX notification_read_age ON notification (created_at) WHERE is_read;

-- The last position given; one writer at a time, so positions appear in their order.
CREATE TABLE notification_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL
);
INSERT INTO notification_head (id, seq) SELECT 1, COALESCE(MAX(seq), 0) FROM notification;

-- When a user last marked something: a position of the same row of numbers.
CREATE TABLE notification_mark (
    user_id  BLOB PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    seq      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX notification_mark_seq ON notification_mark (seq);

-- What a user wants to hear of; a user without a row has the defaults.
CREATE TABLE notification_preference (
    user_id           BLOB PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    mute_own_actions  BOOLEAN NOT NULL,
    version           INTEGER NOT NULL
) WITHOUT ROWID;

-- The kinds that a user has decided on; the others follow their default.
CREATE TABLE notification_choice (
    user_id  BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind     TEXT NOT NULL,
    enabled  BOOLEAN NOT NULL,
    PRIMARY KEY (user_id, kind)
) WITHOUT ROWID;
