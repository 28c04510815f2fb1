-- Who is to run a test and who is to evaluate it; until when its remediation has time.
ALTER TABLE test ADD COLUMN red_assignee BLOB;
ALTER TABLE test ADD COLUMN blue_assignee BLOB;
ALTER TABLE test ADD COLUMN remediation_due_date TEXT;

-- A chain in its order, and the retests of a test that is deleted.
CREATE INDEX test_chain ON test (chain_id, created_at, id);
CREATE INDEX test_retest_of ON test (retest_of) WHERE retest_of IS NOT NULL;
