-- The status of a technique is computed from its validated tests, of which there is all in this index, and from whether
-- any other is under way.
DROP INDEX test_fact_technique;
CREATE INDEX test_fact_technique ON test_fact (technique_id, deleted, state);
CREATE INDEX test_fact_validated ON test_fact
    (technique_id, deleted, state, chain_id, validated_at, detection_result, test_id) WHERE state = 'validated';
