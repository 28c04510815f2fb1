-- Which release of ATT&CK a matrix is of, as the last document said.
CREATE TABLE matrix (
    domain         TEXT PRIMARY KEY,
    attack_release TEXT NOT NULL
);
