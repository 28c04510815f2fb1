-- What is known of techniques: actors, software, rules, countermeasures, controls …, one row each whatever brought it.
CREATE TABLE knowledge (
    id          UUID PRIMARY KEY,
    kind        TEXT NOT NULL,
    -- By what people and links name it.
    key         TEXT COLLATE "C" NOT NULL,
    -- Whose record it is: mitre_attack, sigma, custom …
    source      TEXT NOT NULL,
    source_id   TEXT NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    description TEXT,
    aliases     JSONB NOT NULL,
    platforms   JSONB NOT NULL,
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
    attributes  JSONB NOT NULL,
    -- A person said so of a countermeasure; a sync leaves it alone.
    implemented BOOLEAN NOT NULL,
    version     BIGINT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL
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
    key          TEXT COLLATE "C" NOT NULL,
    knowledge_id UUID NOT NULL REFERENCES knowledge (id) ON DELETE CASCADE,
    content_hash BYTEA NOT NULL,
    content      JSONB,
    PRIMARY KEY (origin, kind, key)
);
CREATE INDEX knowledge_origin_record ON knowledge_origin (knowledge_id);

-- What is said of two records. The ends are named, not pointed at: a rule may name a technique that comes later.
CREATE TABLE link (
    origin       TEXT NOT NULL,
    -- From all that it says: two documents that say the same have the same, and a set of these tells what changed.
    id           UUID NOT NULL,
    from_kind    TEXT NOT NULL,
    from_key     TEXT COLLATE "C" NOT NULL,
    relation     TEXT NOT NULL,
    to_kind      TEXT NOT NULL,
    to_key       TEXT COLLATE "C" NOT NULL,
    description  TEXT,
    -- Array of objects.
    refs         JSONB NOT NULL,
    PRIMARY KEY (origin, id)
);
CREATE INDEX link_from ON link (from_kind, from_key, to_kind, to_key, relation);
CREATE INDEX link_to ON link (to_kind, to_key, from_kind, from_key, relation);

-- Platforms of templates and of knowledge, to be filtered by.
CREATE TABLE knowledge_platform (
    knowledge_id UUID NOT NULL REFERENCES knowledge (id) ON DELETE CASCADE,
    platform     TEXT NOT NULL,
    PRIMARY KEY (knowledge_id, platform)
);
CREATE INDEX knowledge_platform_platform ON knowledge_platform (platform, knowledge_id);

-- A template has several now.
DROP INDEX template_platform;
CREATE TABLE template_platform (
    template_id UUID NOT NULL REFERENCES template (id) ON DELETE CASCADE,
    platform    TEXT NOT NULL,
    PRIMARY KEY (template_id, platform)
);
CREATE INDEX template_platform_platform ON template_platform (platform, template_id);
INSERT INTO template_platform (template_id, platform) SELECT id, platform FROM template WHERE platform IS NOT NULL;

ALTER TABLE template ADD COLUMN platforms JSONB NOT NULL DEFAULT '[]';
UPDATE template SET platforms = jsonb_build_array(platform) WHERE platform IS NOT NULL;
-- What its own format has besides.
ALTER TABLE template ADD COLUMN details JSONB NOT NULL DEFAULT '{}';
ALTER TABLE template ADD COLUMN origin TEXT;
ALTER TABLE template ADD COLUMN content_hash BYTEA;
-- Its source no longer has it; is_active stays what a person made it.
ALTER TABLE template ADD COLUMN vanished BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX template_origin ON template (origin);

-- Which techniques one replaces.
CREATE INDEX technique_revoked_by ON technique (revoked_by, domain);
