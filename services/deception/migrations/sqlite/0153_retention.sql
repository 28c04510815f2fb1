-- When a run was written, microseconds since 1970: that long ago its newest event came in. NULL where an earlier version
-- wrote it.
ALTER TABLE log_run ADD COLUMN written_at INTEGER;
