-- One row: the fleet as a whole. Its uid tells its containers from those of others. Its generation grows with every
-- change that sensors have to hear of. Whoever mutates deckies on time holds the lease.
CREATE TABLE fleet (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    uid             BLOB NOT NULL,
    generation      INTEGER NOT NULL,
    lease_holder    BLOB,
    lease_until     TEXT
);
INSERT INTO fleet (id, uid, generation) VALUES (1, randomblob(16), 1);

-- Sensors that have attached. `attachment` is the stream that speaks for one.
CREATE TABLE sensor (
    id              BLOB PRIMARY KEY,
    name            TEXT NOT NULL,
    version         TEXT NOT NULL,
    services        TEXT NOT NULL,
    attached        BOOLEAN NOT NULL,
    attachment      BLOB NOT NULL,
    seen_at         TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    buffered        INTEGER NOT NULL,
    open_sessions   INTEGER NOT NULL
);
CREATE INDEX sensor_name ON sensor (name);
CREATE INDEX sensor_seen ON sensor (seen_at);

CREATE TABLE decky (
    id              BLOB PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    ip              TEXT NOT NULL UNIQUE,
    mac             TEXT NOT NULL UNIQUE,
    hostname        TEXT NOT NULL,
    archetype       TEXT NOT NULL,
    nmap_os         TEXT NOT NULL,
    system          TEXT NOT NULL,
    seed            BLOB NOT NULL,
    booted_at       TEXT NOT NULL,
    net             TEXT,
    gateway         TEXT,
    interface       TEXT,
    runtime         TEXT NOT NULL,
    deployed        BOOLEAN NOT NULL,
    sensor_id       BLOB NOT NULL,
    mutate_interval TEXT,
    options         TEXT NOT NULL,
    last_mutated    TEXT,
    created_at      TEXT NOT NULL,
    version         INTEGER NOT NULL
);
CREATE INDEX decky_sensor ON decky (sensor_id);
CREATE INDEX decky_deployed ON decky (deployed, created_at);

CREATE TABLE decky_service (
    decky_id        BLOB NOT NULL REFERENCES decky (id) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    position        INTEGER NOT NULL,
    port            INTEGER NOT NULL,
    PRIMARY KEY (decky_id, name)
);

-- What sensors say of what they host. Deckies may be gone before that is.
CREATE TABLE hosted (
    decky_id        BLOB NOT NULL,
    service         TEXT NOT NULL,
    sensor_id       BLOB NOT NULL,
    generation      INTEGER NOT NULL,
    status          TEXT NOT NULL,
    address         TEXT NOT NULL,
    detail          TEXT NOT NULL,
    PRIMARY KEY (decky_id, service)
);
CREATE INDEX hosted_sensor ON hosted (sensor_id, generation);
