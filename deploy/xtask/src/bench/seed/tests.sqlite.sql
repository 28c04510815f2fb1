-- A million tests over three years: each a minute and a half after the one before, its fields by chance.
WITH RECURSIVE row (n, id, a, b, c, d, e) AS (
    SELECT -1, NULL, 0, 0, 0, 0, 0
    UNION ALL
    SELECT n + 1,
        -- A UUID of version 7 of that moment.
        unhex(printf('%012x7%03x8%015x', (unixepoch() - ($1 - n) * 95) * 1000, n & 4095,
                     abs(random() % 1152921504606846976))),
        abs(random() % 1000), abs(random() % 1000), abs(random() % 100000), abs(random() % 1000), abs(random() % 1000)
    FROM row WHERE n + 1 < $1
),
drawn AS (
    SELECT n, id, a, b, c, d, e, unixepoch() AS now, unixepoch() - ($1 - n) * 95 AS t,
        CASE WHEN a < 600 THEN 'validated' WHEN a < 690 THEN 'rejected' WHEN a < 840 THEN 'draft'
             WHEN a < 890 THEN 'red_executing' WHEN a < 940 THEN 'blue_evaluating' ELSE 'in_review' END AS state,
        CASE WHEN b < 450 THEN 'windows' WHEN b < 700 THEN 'linux' WHEN b < 820 THEN 'macos' WHEN b < 870 THEN 'azure-ad'
             WHEN b < 920 THEN 'office-365' WHEN b < 960 THEN 'iaas:aws' WHEN b < 980 THEN 'containers' END AS platform,
        -- Some techniques, and some people, have many more tests than others.
        CASE c % 2 WHEN 0 THEN c ELSE c * c / 100000 END * (SELECT COUNT(*) FROM technique_of) / 100000 AS technique,
        d * d / 1000 * (SELECT COUNT(*) FROM user_of) / 1000 AS creator
    FROM row WHERE n >= 0
),
judged AS (
    SELECT *,
        CASE WHEN state IN ('in_review', 'rejected') OR state = 'validated' AND e >= 30
             THEN CASE e % 3 WHEN 0 THEN 'detected' WHEN 1 THEN 'partially_detected' ELSE 'not_detected' END END AS result,
        CASE WHEN state IN ('validated', 'rejected') AND d % 4 = 0
             THEN CASE e % 5 WHEN 0 THEN 'pending' WHEN 1 THEN 'in_progress' WHEN 2 THEN 'not_applicable'
                  ELSE 'completed' END END AS remedy,
        CASE WHEN state <> 'draft' THEN t + 600 + a END AS started,
        CASE WHEN state IN ('blue_evaluating', 'in_review', 'validated', 'rejected') THEN t + 3600 + a + d END AS red_done,
        CASE WHEN state IN ('in_review', 'validated', 'rejected') THEN t + 9000 + a + d + e * 20 END AS blue_done
    FROM drawn
),
timed AS (
    -- One in five said no times.
    SELECT *, CASE WHEN n % 5 <> 0 THEN started + 60 END AS executed,
        CASE WHEN n % 5 <> 0 AND result IN ('detected', 'partially_detected') THEN started + 60 + e * e / 30 END AS detected
    FROM judged
)
INSERT INTO test (
    id, technique_id, mitre_id, technique_name, name, description, platform, procedure_text, tool_used, state, created_by,
    created_by_username, created_at, updated_at, red_summary, attack_success, detection_result, red_validation_status,
    blue_validation_status, validated_at, remediation_status, remediation_assignee, remediation_due_date, red_assignee,
    blue_assignee, chain_id, version, execution_date, executed_at, executed_at_source, detected_at, detected_at_source,
    responded_at, responded_at_source, contained_at, contained_at_source, remediation_steps, remediation_completed_at,
    red_submitted_at, blue_submitted_at, red_validated_at, blue_validated_at
)
SELECT timed.id, technique_of.id, technique_of.mitre_id, technique_of.name, 'Test number ' || timed.n,
    'What it is for, in a sentence or two of the usual length; and what has to be there before it can begin.',
    platform, 'Step by step: ' || hex(zeroblob(100)), 'Atomic Red Team', state, user_of.id, user_of.username,
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', t, 'unixepoch'), strftime('%Y-%m-%dT%H:%M:%f000+00:00', t, 'unixepoch'),
    CASE WHEN state <> 'draft' THEN 'It ran as it was meant to.' END, CASE WHEN state <> 'draft' THEN e % 10 <> 0 END,
    result,
    CASE state WHEN 'validated' THEN 'approved' WHEN 'rejected' THEN 'rejected'
         WHEN 'in_review' THEN CASE WHEN e < 300 THEN 'approved' ELSE 'pending' END ELSE 'pending' END,
    CASE state WHEN 'validated' THEN 'approved' WHEN 'in_review' THEN CASE WHEN e >= 700 THEN 'approved' ELSE 'pending' END
         ELSE 'pending' END,
    CASE state WHEN 'validated'
         THEN strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(blue_done + 7200, now), 'unixepoch') END,
    remedy,
    CASE WHEN state IN ('validated', 'rejected') AND d % 4 = 0
         THEN (SELECT id FROM user_of AS remedy WHERE remedy.n = c % 20) END,
    CASE WHEN state IN ('validated', 'rejected') AND d % 8 = 0
         THEN strftime('%Y-%m-%dT%H:%M:%f000+00:00', t + e * 7776, 'unixepoch') END,
    CASE WHEN e % 5 < 3 THEN (SELECT id FROM user_of AS red WHERE red.n = e % 7) END,
    CASE WHEN c % 5 < 3 THEN (SELECT id FROM user_of AS blue WHERE blue.n = 7 + c % 7) END,
    timed.id, 4,
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(started, now), 'unixepoch'),
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(executed, now), 'unixepoch'),
    CASE WHEN executed IS NOT NULL THEN 'typed' END,
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(detected, now), 'unixepoch'),
    CASE WHEN detected IS NOT NULL THEN 'typed' END,
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(detected + 30 + b, now), 'unixepoch'),
    CASE WHEN detected IS NOT NULL THEN 'typed' END,
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(detected + 30 + b + c % 5000, now), 'unixepoch'),
    CASE WHEN detected IS NOT NULL THEN 'typed' END,
    CASE WHEN remedy IS NOT NULL THEN 'Write a rule for it, and try it again.' END,
    CASE remedy WHEN 'completed'
         THEN strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(t + 90000 + d * 1200, now), 'unixepoch') END,
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(red_done, now), 'unixepoch'),
    strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(blue_done, now), 'unixepoch'),
    CASE WHEN state IN ('validated', 'rejected')
         THEN strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(blue_done + 3600, now), 'unixepoch') END,
    CASE state WHEN 'validated'
         THEN strftime('%Y-%m-%dT%H:%M:%f000+00:00', MIN(blue_done + 7200, now), 'unixepoch') END
FROM timed JOIN technique_of ON technique_of.n = technique JOIN user_of ON user_of.n = creator;
