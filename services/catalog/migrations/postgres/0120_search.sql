-- What can be searched for: techniques, templates and knowledge, one row each, with what is looked for in lower case.
--
-- `names` and `words` are there of what is active only. Their texts come without punctuation, so that every part of an
-- id, a path or a host is a word of its own, and without accents. A kind is one word that begins with `=`: nothing that
-- is searched for has that. The words of names are apart: even those that begin with one given letter are few there.
CREATE TABLE search_entry (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      UUID NOT NULL UNIQUE,
    kind    TEXT NOT NULL,
    -- The kinds' order in answers.
    ord     BIGINT NOT NULL,
    key     TEXT COLLATE "C" NOT NULL,
    name    TEXT NOT NULL,
    -- Key and name in lower case.
    lookup  TEXT COLLATE "C" NOT NULL,
    title   TEXT COLLATE "C" NOT NULL,
    -- In lower case, each between two line feeds.
    aliases TEXT COLLATE "C" NOT NULL,
    active  BOOLEAN NOT NULL,
    -- As written; what is too long is cut.
    body    TEXT NOT NULL,
    -- The words of key, name and aliases, and those of all.
    names   TSVECTOR,
    words   TSVECTOR
) WITH (toast_tuple_target = 512);
CREATE INDEX search_entry_lookup ON search_entry (lookup, kind, active);
CREATE INDEX search_entry_title ON search_entry (title, kind, active);
CREATE INDEX search_entry_inactive ON search_entry (kind) WHERE NOT active;
-- What is there already.
INSERT INTO search_entry (id, kind, ord, key, name, lookup, title, aliases, active, body)
SELECT id, 'technique', 0, mitre_id, name, lower(mitre_id), lower(left(name, 200)), chr(10),
       NOT revoked AND NOT deprecated, left(COALESCE(description, ''), 8000)
FROM technique;
INSERT INTO search_entry (id, kind, ord, key, name, lookup, title, aliases, active, body)
SELECT id, 'template', 10, source_id, name, lower(left(source_id, 200)), lower(left(name, 200)), chr(10),
       is_active AND NOT vanished,
       left(mitre_technique_id || chr(10) || COALESCE(description, '') || chr(10) || COALESCE(attack_procedure, ''),
            8000)
FROM template;
UPDATE search_entry SET
    names = array_to_tsvector(ARRAY['=' || kind]) || setweight(to_tsvector('simple', translate(
        regexp_replace(normalize(lookup || ' ' || title, NFD), '[\u0300-\u036f]+', '', 'g'),
        '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', '                                ')), 'A'),
    words = to_tsvector('simple', translate(
        regexp_replace(normalize(body, NFD), '[\u0300-\u036f]+', '', 'g'),
        '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', '                                '))
WHERE active;
UPDATE search_entry SET words = names || setweight(words, 'D') WHERE active;
CREATE INDEX search_entry_names ON search_entry USING gin (names);
CREATE INDEX search_entry_words ON search_entry USING gin (words);

-- Lists leave out what is not active, and count.
CREATE INDEX knowledge_live ON knowledge (kind, revoked, deprecated, key);
