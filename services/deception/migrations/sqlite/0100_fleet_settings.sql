-- One row: what holds for the fleet as a whole.
CREATE TABLE fleet_settings (
    id                          INTEGER PRIMARY KEY CHECK (id = 1),
    version                     INTEGER NOT NULL,
    deployment_limit            INTEGER NOT NULL,
    global_mutation_interval    TEXT NOT NULL,
    updated_at                  TEXT NOT NULL
);
INSERT INTO fleet_settings (id, version, deployment_limit, global_mutation_interval, updated_at)
VALUES (1, 1, 10, '30m', strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'));
