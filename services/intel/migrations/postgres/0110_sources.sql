-- The second document of a source that needs two, and what tells that it is still the same.
ALTER TABLE data_source ADD COLUMN companion_url TEXT;
ALTER TABLE data_source ADD COLUMN companion_etag TEXT;
-- The documents that came in last were read for less than is read of them now.
UPDATE data_source SET etag = NULL;

-- A sync that changed nothing and says what would change.
ALTER TABLE sync_job ADD COLUMN dry_run BOOLEAN NOT NULL DEFAULT FALSE;
-- What became of techniques: array of objects.
ALTER TABLE sync_job ADD COLUMN changes JSONB NOT NULL DEFAULT '[]';
CREATE INDEX sync_job_started ON sync_job (started_at, id);
CREATE INDEX sync_job_source_started ON sync_job (source_id, started_at, id);
