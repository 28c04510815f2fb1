-- Lists of a million tests: each filter walks an index in the order of the list, and totals are kept, not counted.

-- All that lists filter by comes with the technique's tests, so that only rows of the page are read.
DROP INDEX test_technique;
CREATE INDEX test_technique ON test (technique_id, created_at DESC, id DESC, state, platform, created_by,
    red_validation_status, blue_validation_status, detection_result, remediation_status, remediation_due_date,
    red_assignee, blue_assignee, remediation_assignee);
CREATE INDEX test_state_platform ON test (state, platform, created_at DESC, id DESC);
CREATE INDEX test_created_by_state ON test (created_by, state, created_at DESC, id DESC);
CREATE INDEX test_created_by_platform ON test (created_by, platform, created_at DESC, id DESC);
CREATE INDEX test_created_by_state_platform ON test (created_by, state, platform, created_at DESC, id DESC);

-- Of few tests each: everything that they may be filtered by besides is in the index.
CREATE INDEX test_red_pending ON test (created_at DESC, id DESC, platform, created_by, remediation_status, red_assignee,
    blue_assignee, remediation_assignee) WHERE state = 'in_review' AND red_validation_status = 'pending';
CREATE INDEX test_blue_pending ON test (created_at DESC, id DESC, platform, created_by, remediation_status, red_assignee,
    blue_assignee, remediation_assignee) WHERE state = 'in_review' AND blue_validation_status = 'pending';
CREATE INDEX test_incomplete ON test (created_at DESC, id DESC, platform, created_by, remediation_status, red_assignee,
    blue_assignee, remediation_assignee) WHERE state = 'validated' AND detection_result IS NULL;
CREATE INDEX test_due ON test (created_at DESC, id DESC, remediation_due_date, state, platform, created_by,
    red_validation_status, blue_validation_status, detection_result, remediation_status, red_assignee, blue_assignee,
    remediation_assignee)
    WHERE remediation_due_date IS NOT NULL AND COALESCE(remediation_status, 'pending') IN ('pending', 'in_progress');
CREATE INDEX test_remediation ON test (remediation_status, created_at DESC, id DESC, state, platform, created_by)
    WHERE remediation_status IS NOT NULL;
CREATE INDEX test_red_assignee ON test (red_assignee, created_at DESC, id DESC, state, platform, created_by,
    remediation_status) WHERE red_assignee IS NOT NULL;
CREATE INDEX test_blue_assignee ON test (blue_assignee, created_at DESC, id DESC, state, platform, created_by,
    remediation_status, red_assignee) WHERE blue_assignee IS NOT NULL;
CREATE INDEX test_remediation_assignee ON test (remediation_assignee, created_at DESC, id DESC, state, platform,
    created_by, remediation_status, red_assignee, blue_assignee) WHERE remediation_assignee IS NOT NULL;

-- How many tests there are of each kind. `scope` is nil for all tests, and a user for those assigned to them: a test
-- counts once for all and once for each of its assignees. What may be absent is an empty text here.
CREATE TABLE tally (
    scope              BLOB NOT NULL,
    state              TEXT NOT NULL,
    platform           TEXT NOT NULL,
    created_by         BLOB NOT NULL,
    red_pending        BOOLEAN NOT NULL,
    blue_pending       BOOLEAN NOT NULL,
    incomplete         BOOLEAN NOT NULL,
    remediation_status TEXT NOT NULL,
    n                  INTEGER NOT NULL,
    PRIMARY KEY (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status)
) WITHOUT ROWID;

-- What has come and gone since; folded into `tally` every moment. A number is the sum of both.
CREATE TABLE tally_delta (
    id                 INTEGER PRIMARY KEY,
    scope              BLOB NOT NULL,
    state              TEXT NOT NULL,
    platform           TEXT NOT NULL,
    created_by         BLOB NOT NULL,
    red_pending        BOOLEAN NOT NULL,
    blue_pending       BOOLEAN NOT NULL,
    incomplete         BOOLEAN NOT NULL,
    remediation_status TEXT NOT NULL,
    n                  INTEGER NOT NULL
);

-- Each test, once for each scope that it counts in.
CREATE VIEW tallied AS
SELECT id AS test_id, scope, state, COALESCE(platform, '') AS platform, created_by,
    state = 'in_review' AND red_validation_status = 'pending' AS red_pending,
    state = 'in_review' AND blue_validation_status = 'pending' AS blue_pending,
    state = 'validated' AND detection_result IS NULL AS incomplete,
    COALESCE(remediation_status, '') AS remediation_status
FROM (
    SELECT x'00000000000000000000000000000000' AS scope, * FROM test
    UNION ALL
    SELECT red_assignee, * FROM test WHERE red_assignee IS NOT NULL
    UNION ALL
    SELECT blue_assignee, * FROM test WHERE blue_assignee IS NOT NULL AND blue_assignee IS NOT red_assignee
    UNION ALL
    SELECT remediation_assignee, * FROM test WHERE remediation_assignee IS NOT NULL
        AND remediation_assignee IS NOT red_assignee AND remediation_assignee IS NOT blue_assignee
);

INSERT INTO tally (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
SELECT scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, COUNT(*)
FROM tallied GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;

-- Whoever writes a test, the numbers go with it.
CREATE TRIGGER test_tally_insert AFTER INSERT ON test BEGIN
    INSERT INTO tally_delta
        (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
    SELECT scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, 1
    FROM tallied WHERE test_id = NEW.id;
END;
CREATE TRIGGER test_tally_update_from BEFORE UPDATE ON test
WHEN (OLD.state, OLD.platform, OLD.created_by, OLD.red_validation_status, OLD.blue_validation_status,
      OLD.detection_result, OLD.remediation_status, OLD.red_assignee, OLD.blue_assignee, OLD.remediation_assignee)
IS NOT (NEW.state, NEW.platform, NEW.created_by, NEW.red_validation_status, NEW.blue_validation_status,
      NEW.detection_result, NEW.remediation_status, NEW.red_assignee, NEW.blue_assignee, NEW.remediation_assignee)
BEGIN
    INSERT INTO tally_delta
        (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
    SELECT scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, -1
    FROM tallied WHERE test_id = OLD.id;
END;
CREATE TRIGGER test_tally_update_to AFTER UPDATE ON test
WHEN (OLD.state, OLD.platform, OLD.created_by, OLD.red_validation_status, OLD.blue_validation_status,
      OLD.detection_result, OLD.remediation_status, OLD.red_assignee, OLD.blue_assignee, OLD.remediation_assignee)
IS NOT (NEW.state, NEW.platform, NEW.created_by, NEW.red_validation_status, NEW.blue_validation_status,
      NEW.detection_result, NEW.remediation_status, NEW.red_assignee, NEW.blue_assignee, NEW.remediation_assignee)
BEGIN
    INSERT INTO tally_delta
        (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
    SELECT scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, 1
    FROM tallied WHERE test_id = NEW.id;
END;
CREATE TRIGGER test_tally_delete BEFORE DELETE ON test BEGIN
    INSERT INTO tally_delta
        (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
    SELECT scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, -1
    FROM tallied WHERE test_id = OLD.id;
END;
