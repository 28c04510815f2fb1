-- One row: the fleet as a whole. Its uid tells its containers from those of others. Its generation grows with every
-- change that sensors have to hear of. Whoever mutates deckies on time holds the lease.
CREATE TABLE fleet (
    id              BIGINT PRIMARY KEY CHECK (id = 1),
    uid             UUID NOT NULL,
    generation      BIGINT NOT NULL,
    lease_holder    UUID,
    lease_until     TIMESTAMPTZ
);
INSERT INTO fleet (id, uid, generation) VALUES (1, gen_random_uuid(), 1);

-- Sensors that have attached. `attachment` is the stream that speaks for one.
CREATE TABLE sensor (
    id              UUID PRIMARY KEY,
    name            TEXT NOT NULL,
    version         TEXT NOT NULL,
    services        JSONB NOT NULL,
    attached        BOOLEAN NOT NULL,
    attachment      UUID NOT NULL,
    seen_at         TIMESTAMPTZ NOT NULL,
    generation      BIGINT NOT NULL,
    buffered        BIGINT NOT NULL,
    open_sessions   BIGINT NOT NULL
);
CREATE INDEX sensor_name ON sensor (name);
CREATE INDEX sensor_seen ON sensor (seen_at);

CREATE TABLE decky (
    id              UUID PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    ip              TEXT NOT NULL UNIQUE,
    mac             TEXT NOT NULL UNIQUE,
    hostname        TEXT NOT NULL,
    archetype       TEXT NOT NULL,
    nmap_os         TEXT NOT NULL,
    system          TEXT NOT NULL,
    seed            BYTEA NOT NULL,
    booted_at       TIMESTAMPTZ NOT NULL,
    net             TEXT,
    gateway         TEXT,
    interface       TEXT,
    runtime         TEXT NOT NULL,
    deployed        BOOLEAN NOT NULL,
    sensor_id       UUID NOT NULL,
    mutate_interval TEXT,
    options         JSONB NOT NULL,
    last_mutated    TIMESTAMPTZ,
    created_at      TIMESTAMPTZ NOT NULL,
    version         BIGINT NOT NULL
);
CREATE INDEX decky_sensor ON decky (sensor_id);
CREATE INDEX decky_deployed ON decky (deployed, created_at);

CREATE TABLE decky_service (
    decky_id        UUID NOT NULL REFERENCES decky (id) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    position        BIGINT NOT NULL,
    port            BIGINT NOT NULL,
    PRIMARY KEY (decky_id, name)
);

-- What sensors say of what they host. Deckies may be gone before that is.
CREATE TABLE hosted (
    decky_id        UUID NOT NULL,
    service         TEXT NOT NULL,
    sensor_id       UUID NOT NULL,
    generation      BIGINT NOT NULL,
    status          TEXT NOT NULL,
    address         TEXT NOT NULL,
    detail          TEXT NOT NULL,
    PRIMARY KEY (decky_id, service)
);
CREATE INDEX hosted_sensor ON hosted (sensor_id, generation);
