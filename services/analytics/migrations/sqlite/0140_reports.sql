-- What reports over tests are read from.

-- All that key figures are of, so that nothing but this is read for them. Behind what they are grouped by comes the id:
-- so a test goes to the end of its group, and a million of them touch few pages.
CREATE INDEX test_fact_figures ON test_fact (
    deleted, decided_week, state, test_id, detection_result, attack_success, remediation_status, red_validation_status,
    blue_validation_status, red_submitted_at, blue_submitted_at, detect_seconds, remediate_seconds, contain_seconds,
    red_seconds, blue_seconds, review_seconds
);
-- Newest first, and how many were made when.
CREATE INDEX test_fact_created ON test_fact (created_at, test_id, state, detection_result)
    WHERE deleted = FALSE AND created_at IS NOT NULL;
CREATE INDEX test_fact_state ON test_fact (state, created_at, test_id, detection_result)
    WHERE deleted = FALSE AND created_at IS NOT NULL;
-- The last that were changed.
CREATE INDEX test_fact_updated ON test_fact (updated_at, test_id) WHERE deleted = FALSE AND updated_at IS NOT NULL;
-- Those with a remediation: due first, then newest first.
CREATE INDEX test_fact_remediation ON test_fact (remediation_due_date, created_at DESC, test_id DESC)
    WHERE deleted = FALSE AND remediation_status IS NOT NULL;
CREATE INDEX test_fact_remediation_status
    ON test_fact (remediation_status, remediation_due_date, created_at DESC, test_id DESC)
    WHERE deleted = FALSE AND remediation_status IS NOT NULL;
