-- What is known of techniques: actors, software, rules, countermeasures, controls …, one row each whatever brought it.
CREATE TABLE knowledge (
    id          BLOB PRIMARY KEY,
    kind        TEXT NOT NULL,
    -- By what people and links name it.
    key         TEXT NOT NULL,
    -- Whose record it is: mitre_attack, sigma, custom …
    source      TEXT NOT NULL,
    source_id   TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT,
    aliases     TEXT NOT NULL,
    platforms   TEXT NOT NULL,
    url         TEXT,
    revoked     BOOLEAN NOT NULL,
    -- Said by the publisher, or no longer in any of its documents.
    deprecated  BOOLEAN NOT NULL,
    revoked_by  TEXT,
    severity    TEXT,
    status      TEXT,
    country     TEXT,
    motivation  TEXT,
    collection  TEXT,
    -- A rule's text.
    content     TEXT,
    attributes  TEXT NOT NULL,
    -- A person said so of a countermeasure; a sync leaves it alone.
    implemented BOOLEAN NOT NULL,
    version     INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);
CREATE UNIQUE INDEX knowledge_key ON knowledge (kind, key);
CREATE INDEX knowledge_name ON knowledge (kind, name, id);
CREATE INDEX knowledge_source ON knowledge (kind, source, key);
CREATE INDEX knowledge_severity ON knowledge (kind, severity, key) WHERE severity IS NOT NULL;
CREATE INDEX knowledge_status ON knowledge (kind, status, key) WHERE status IS NOT NULL;
CREATE INDEX knowledge_country ON knowledge (kind, country, key) WHERE country IS NOT NULL;
CREATE INDEX knowledge_motivation ON knowledge (kind, motivation, key) WHERE motivation IS NOT NULL;
CREATE INDEX knowledge_collection ON knowledge (kind, collection, key) WHERE collection IS NOT NULL;
CREATE INDEX knowledge_updated ON knowledge (kind, updated_at, id);

-- Which data source brought what of a row, so that a record of several (a group of two domains, an actor of two
-- publishers) lives as long as one of them has it. `content` is there where a row may be put together of several: the
-- whole record of that origin.
CREATE TABLE knowledge_origin (
    origin       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    -- The record's key in the origin's own document.
    key          TEXT NOT NULL,
    knowledge_id BLOB NOT NULL REFERENCES knowledge (id) ON DELETE CASCADE,
    content_hash BLOB NOT NULL,
    content      TEXT,
    PRIMARY KEY (origin, kind, key)
) WITHOUT ROWID;
CREATE INDEX knowledge_origin_record ON knowledge_origin (knowledge_id);

-- What is said of two records. The ends are named, not pointed at: a rule may name a technique that comes later.
CREATE TABLE link (
    origin       TEXT NOT NULL,
    -- From all that it says: two documents that say the same have the same, and a set of these tells what changed.
    id           BLOB NOT NULL,
    from_kind    TEXT NOT NULL,
    from_key     TEXT NOT NULL,
    relation     TEXT NOT NULL,
    to_kind      TEXT NOT NULL,
    to_key       TEXT NOT NULL,
    description  TEXT,
    -- Array of objects.
    refs         TEXT NOT NULL,
    PRIMARY KEY (origin, id)
);
CREATE INDEX link_from ON link (from_kind, from_key, to_kind, to_key, relation);
CREATE INDEX link_to ON link (to_kind, to_key, from_kind, from_key, relation);

-- Platforms of templates and of knowledge, to be filtered by.
CREATE TABLE knowledge_platform (
    knowledge_id BLOB NOT NULL REFERENCES knowledge (id) ON DELETE CASCADE,
    platform     TEXT NOT NULL,
    PRIMARY KEY (knowledge_id, platform)
) WITHOUT ROWID;
CREATE INDEX knowledge_platform_platform ON knowledge_platform (platform, knowledge_id);

-- A template has several now.
DROP INDEX template_platform;
CREATE TABLE template_platform (
    template_id BLOB NOT NULL REFERENCES template (id) ON DELETE CASCADE,
    platform    TEXT NOT NULL,
    PRIMARY KEY (template_id, platform)
) WITHOUT ROWID;
CREATE INDEX template_platform_platform ON template_platform (platform, template_id);
INSERT INTO template_platform (template_id, platform) SELECT id, platform FROM template WHERE platform IS NOT NULL;

ALTER TABLE template ADD COLUMN platforms TEXT NOT NULL DEFAULT '[]';
UPDATE template SET platforms = json_array(platform) WHERE platform IS NOT NULL;
-- What its own format has besides.
ALTER TABLE template ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
ALTER TABLE template ADD COLUMN origin TEXT;
ALTER TABLE template ADD COLUMN content_hash BLOB;
-- Its source no longer has it; is_active stays what a person made it.
ALTER TABLE template ADD COLUMN vanished BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX template_origin ON template (origin);

-- Which techniques one replaces.
CREATE INDEX technique_revoked_by ON technique (revoked_by, domain);
