-- When each side last handed a test on; null before it did. A test that is reopened has none.
ALTER TABLE test ADD COLUMN red_submitted_at TIMESTAMPTZ;
ALTER TABLE test ADD COLUMN blue_submitted_at TIMESTAMPTZ;

-- What the timelines say of the tests that there are.
UPDATE test SET red_submitted_at = (
    SELECT MAX(at) FROM timeline
    WHERE timeline.test_id = test.id AND kind = 'transition' AND details ->> 'action' = 'submit_red'
) WHERE state IN ('blue_evaluating', 'in_review', 'validated', 'rejected');
UPDATE test SET blue_submitted_at = (
    SELECT MAX(at) FROM timeline
    WHERE timeline.test_id = test.id AND kind = 'transition' AND details ->> 'action' = 'submit_blue'
) WHERE state IN ('in_review', 'validated', 'rejected');
