-- One row: what holds for the fleet as a whole.
CREATE TABLE fleet_settings (
    id                          BIGINT PRIMARY KEY CHECK (id = 1),
    version                     BIGINT NOT NULL,
    deployment_limit            BIGINT NOT NULL,
    global_mutation_interval    TEXT NOT NULL,
    updated_at                  TIMESTAMPTZ NOT NULL
);
INSERT INTO fleet_settings (id, version, deployment_limit, global_mutation_interval, updated_at)
VALUES (1, 1, 10, '30m', now());
