-- What reports over tests are read from. Key figures need no index here: PostgreSQL reads the table from front to back.

-- Newest first, and how many were made when.
CREATE INDEX test_fact_created ON test_fact (created_at, test_id) INCLUDE (state, detection_result)
    WHERE deleted = FALSE AND created_at IS NOT NULL;
CREATE INDEX test_fact_state ON test_fact (state, created_at, test_id) INCLUDE (detection_result)
    WHERE deleted = FALSE AND created_at IS NOT NULL;
-- The last that were changed.
CREATE INDEX test_fact_updated ON test_fact (updated_at, test_id) WHERE deleted = FALSE AND updated_at IS NOT NULL;
-- Those with a remediation: due first, then newest first.
CREATE INDEX test_fact_remediation ON test_fact (remediation_due_date, created_at DESC, test_id DESC)
    WHERE deleted = FALSE AND remediation_status IS NOT NULL;
CREATE INDEX test_fact_remediation_status
    ON test_fact (remediation_status, remediation_due_date, created_at DESC, test_id DESC)
    WHERE deleted = FALSE AND remediation_status IS NOT NULL;
