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
-- Room in each page, so that a new number is written beside the old one.
CREATE TABLE tally (
    scope              UUID NOT NULL,
    state              TEXT NOT NULL,
    platform           TEXT NOT NULL,
    created_by         UUID NOT NULL,
    red_pending        BOOLEAN NOT NULL,
    blue_pending       BOOLEAN NOT NULL,
    incomplete         BOOLEAN NOT NULL,
    remediation_status TEXT NOT NULL,
    n                  BIGINT NOT NULL,
    PRIMARY KEY (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- What has come and gone since; folded into `tally` every moment, so that two who change tests never wait for each
-- other at the same number. A number is the sum of both.
CREATE TABLE tally_delta (
    id                 BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope              UUID NOT NULL,
    state              TEXT NOT NULL,
    platform           TEXT NOT NULL,
    created_by         UUID NOT NULL,
    red_pending        BOOLEAN NOT NULL,
    blue_pending       BOOLEAN NOT NULL,
    incomplete         BOOLEAN NOT NULL,
    remediation_status TEXT NOT NULL,
    n                  BIGINT NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- A test, once for each scope that it counts in.
CREATE FUNCTION tallied(test)
RETURNS TABLE (scope UUID, state TEXT, platform TEXT, created_by UUID, red_pending BOOLEAN, blue_pending BOOLEAN,
               incomplete BOOLEAN, remediation_status TEXT)
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT one.scope, $1.state, COALESCE($1.platform, ''), $1.created_by,
        $1.state = 'in_review' AND $1.red_validation_status = 'pending',
        $1.state = 'in_review' AND $1.blue_validation_status = 'pending',
        $1.state = 'validated' AND $1.detection_result IS NULL,
        COALESCE($1.remediation_status, '')
    FROM (VALUES ('00000000-0000-0000-0000-000000000000'::UUID), ($1.red_assignee), ($1.blue_assignee),
                 ($1.remediation_assignee)) AS one (scope)
    WHERE one.scope IS NOT NULL
$$;

INSERT INTO tally (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
SELECT kind.*, COUNT(*) FROM test CROSS JOIN LATERAL tallied(test) AS kind GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;

-- Whoever writes a test, the numbers go with it.
CREATE FUNCTION test_tally() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO tally_delta
            (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
        SELECT kind.*, -1 FROM tallied(OLD) AS kind;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO tally_delta
            (scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status, n)
        SELECT kind.*, 1 FROM tallied(NEW) AS kind;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER test_tally AFTER INSERT OR DELETE ON test FOR EACH ROW EXECUTE FUNCTION test_tally();
CREATE TRIGGER test_tally_update AFTER UPDATE ON test FOR EACH ROW
WHEN ((OLD.state, OLD.platform, OLD.created_by, OLD.red_validation_status, OLD.blue_validation_status,
       OLD.detection_result, OLD.remediation_status, OLD.red_assignee, OLD.blue_assignee, OLD.remediation_assignee)
    IS DISTINCT FROM
      (NEW.state, NEW.platform, NEW.created_by, NEW.red_validation_status, NEW.blue_validation_status,
       NEW.detection_result, NEW.remediation_status, NEW.red_assignee, NEW.blue_assignee, NEW.remediation_assignee))
EXECUTE FUNCTION test_tally();
