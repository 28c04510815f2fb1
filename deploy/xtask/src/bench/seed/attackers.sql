-- Attackers up to 50,000: each like one of those that the product has made of what came in, at another address and time.
-- What stands in braces differs between the databases: the table of who is like whom, and 32 random bytes.
CREATE TEMP TABLE model AS
SELECT ROW_NUMBER() OVER (ORDER BY ip) - 1 AS n, id, ip FROM attacker WHERE ip LIKE '198.18.%';
{twin}
INSERT INTO attacker (id, ip, first_seen, last_seen, event_count, service_count, decky_count, bounty_count,
    credential_count, command_count, file_count, behavior_class, os_guess, profile, search_text)
SELECT twin.id, twin.ip, first_seen - twin.n * 51840000, last_seen - twin.n * 51840000, event_count + twin.n % 97,
    service_count, decky_count, bounty_count, credential_count, command_count, file_count, behavior_class, os_guess,
    profile, replace(search_text, twin.model_ip, twin.ip)
FROM twin JOIN attacker ON attacker.id = twin.model;
INSERT INTO attacker_timing (attacker_id, timing)
SELECT twin.id, timing FROM twin JOIN attacker_timing ON attacker_id = twin.model;
INSERT INTO attacker_service (attacker_id, service, command_count)
SELECT twin.id, service, command_count FROM twin JOIN attacker_service ON attacker_id = twin.model;
INSERT INTO attacker_term (attacker_id, key, value)
SELECT twin.id, key, value FROM twin JOIN attacker_term ON attacker_id = twin.model;
INSERT INTO observation (technique, attacker_id, attacker_ip, count, first_seen, last_seen, deckies, services, rules,
    last_log_id, last_msg)
SELECT technique, twin.id, twin.ip, count, first_seen - twin.n * 51840000, last_seen - twin.n * 51840000, deckies,
    services, rules, last_log_id, last_msg
FROM twin JOIN observation ON attacker_id = twin.model;
INSERT INTO bounty (hash, bounty_type, attacker_id, attacker_ip, decky, service, subject, content, details, first_seen,
    last_seen, count)
SELECT {hash}, bounty_type, twin.id, twin.ip, decky, service, subject, content, details,
    first_seen - twin.n * 51840000, last_seen - twin.n * 51840000, count
FROM twin JOIN (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY attacker_id ORDER BY id) AS place FROM bounty
) AS few ON few.attacker_id = twin.model AND place <= 4;
DROP TABLE twin;
DROP TABLE model;
