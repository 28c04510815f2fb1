-- A million tests over two years: each a minute after the one before, its fields by chance.
WITH RECURSIVE row (n, id, a, b, c, d, e) AS (
    SELECT -1, NULL, 0, 0, 0, 0, 0
    UNION ALL
    SELECT n + 1,
        -- A UUID of version 7 of that minute.
        unhex(printf('%012x7%03x8%015x', (unixepoch() - ($1 - n) * 60) * 1000, n & 4095,
                     abs(random() % 1152921504606846976))),
        abs(random() % 1000), abs(random() % 1000), abs(random() % 100000), abs(random() % 1000), abs(random() % 1000)
    FROM row WHERE n + 1 < $1
),
drawn AS (
    SELECT n, id, a, b, c, d, e,
        strftime('%Y-%m-%dT%H:%M:%f000+00:00', unixepoch() - ($1 - n) * 60, 'unixepoch') AS at,
        CASE WHEN a < 600 THEN 'validated' WHEN a < 690 THEN 'rejected' WHEN a < 840 THEN 'draft'
             WHEN a < 890 THEN 'red_executing' WHEN a < 940 THEN 'blue_evaluating' ELSE 'in_review' END AS state,
        CASE WHEN b < 450 THEN 'windows' WHEN b < 700 THEN 'linux' WHEN b < 820 THEN 'macos' WHEN b < 870 THEN 'azure-ad'
             WHEN b < 920 THEN 'office-365' WHEN b < 960 THEN 'iaas:aws' WHEN b < 980 THEN 'containers' END AS platform,
        -- Some techniques, and some people, have many more tests than others.
        CASE c % 2 WHEN 0 THEN c ELSE c * c / 100000 END * (SELECT COUNT(*) FROM technique_of) / 100000 AS technique,
        d * d / 1000 * (SELECT COUNT(*) FROM user_of) / 1000 AS creator
    FROM row WHERE n >= 0
)
INSERT INTO test (
    id, technique_id, mitre_id, technique_name, name, description, platform, procedure_text, tool_used, state, created_by,
    created_by_username, created_at, updated_at, red_summary, attack_success, detection_result, red_validation_status,
    blue_validation_status, validated_at, remediation_status, remediation_assignee, remediation_due_date, red_assignee,
    blue_assignee, chain_id, version
)
SELECT drawn.id, technique_of.id, technique_of.mitre_id, technique_of.name, 'Test number ' || drawn.n,
    'What it is for, in a sentence or two of the usual length; and what has to be there before it can begin.',
    platform, 'Step by step: ' || hex(zeroblob(100)), 'Atomic Red Team', state, user_of.id, user_of.username, at, at,
    CASE WHEN state <> 'draft' THEN 'It ran as it was meant to.' END, state <> 'draft',
    CASE WHEN state IN ('in_review', 'rejected') OR state = 'validated' AND e >= 30
         THEN CASE e % 3 WHEN 0 THEN 'detected' WHEN 1 THEN 'partially_detected' ELSE 'not_detected' END END,
    CASE state WHEN 'validated' THEN 'approved' WHEN 'rejected' THEN 'rejected'
         WHEN 'in_review' THEN CASE WHEN e < 300 THEN 'approved' ELSE 'pending' END ELSE 'pending' END,
    CASE state WHEN 'validated' THEN 'approved' WHEN 'in_review' THEN CASE WHEN e >= 700 THEN 'approved' ELSE 'pending' END
         ELSE 'pending' END,
    CASE state WHEN 'validated' THEN at END,
    CASE WHEN state IN ('validated', 'rejected') AND d % 4 = 0
         THEN CASE e % 5 WHEN 0 THEN 'pending' WHEN 1 THEN 'in_progress' WHEN 2 THEN 'not_applicable' ELSE 'completed' END END,
    CASE WHEN state IN ('validated', 'rejected') AND d % 4 = 0
         THEN (SELECT id FROM user_of AS remedy WHERE remedy.n = c % 20) END,
    CASE WHEN state IN ('validated', 'rejected') AND d % 8 = 0
         THEN strftime('%Y-%m-%dT%H:%M:%f000+00:00', unixepoch() - ($1 - drawn.n) * 60 + e * 7776, 'unixepoch') END,
    CASE WHEN e % 5 < 3 THEN (SELECT id FROM user_of AS red WHERE red.n = e % 7) END,
    CASE WHEN c % 5 < 3 THEN (SELECT id FROM user_of AS blue WHERE blue.n = 7 + c % 7) END,
    drawn.id, 4
FROM drawn JOIN technique_of ON technique_of.n = technique JOIN user_of ON user_of.n = creator;
