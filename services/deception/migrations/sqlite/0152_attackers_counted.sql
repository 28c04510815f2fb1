-- How many attackers there are: to count their rows takes longer than to read a page of them. Counted once here, kept by
-- the follower, and counted again when another process follows, as one of an earlier version does not keep it.
ALTER TABLE log_follower ADD COLUMN attackers INTEGER NOT NULL DEFAULT 0;
UPDATE log_follower SET attackers = (SELECT COUNT(*) FROM attacker);
