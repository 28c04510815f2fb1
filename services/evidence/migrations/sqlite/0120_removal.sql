-- A file that is about to be removed: hidden since then, until the test is seen to be still open. A process that ends in
-- between leaves it hidden, and housekeeping shows it again.
ALTER TABLE evidence ADD COLUMN removing_at TEXT;
CREATE INDEX evidence_removing ON evidence (removing_at) WHERE removing_at IS NOT NULL;
