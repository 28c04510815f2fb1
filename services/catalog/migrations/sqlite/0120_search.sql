-- What can be searched for: techniques, templates and knowledge, one row each, with what is looked for in lower case.
CREATE TABLE search_entry (
    seq     INTEGER PRIMARY KEY,
    id      BLOB NOT NULL UNIQUE,
    kind    TEXT NOT NULL,
    -- The kinds' order in answers.
    ord     INTEGER NOT NULL,
    key     TEXT NOT NULL,
    name    TEXT NOT NULL,
    -- Key and name in lower case.
    lookup  TEXT NOT NULL,
    title   TEXT NOT NULL,
    -- In lower case, each between two line feeds.
    aliases TEXT NOT NULL,
    active  BOOLEAN NOT NULL,
    -- As written; what is too long is cut.
    body    TEXT NOT NULL
);
CREATE INDEX search_entry_lookup ON search_entry (lookup, kind, active);
CREATE INDEX search_entry_title ON search_entry (title, kind, active);
CREATE INDEX search_entry_inactive ON search_entry (kind) WHERE NOT active;

-- Only what is active; its rowid is the entry's seq. The words of names are in a table of their own: even those that
-- begin with one given letter are few there.
CREATE VIRTUAL TABLE search_name USING fts5 (
    kind, lookup, title, aliases,
    content = '', contentless_delete = 1, prefix = '1 2 3', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE search_text USING fts5 (
    kind, lookup, title, aliases, body,
    content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- A whole document's words are sorted in memory before they are written, not a mebibyte of them at a time.
INSERT INTO search_name (search_name, rank) VALUES ('hashsize', 8388608);
INSERT INTO search_text (search_text, rank) VALUES ('hashsize', 16777216);
-- And not merged with what was there before by each of a few imports.
INSERT INTO search_name (search_name, rank) VALUES ('automerge', 8);
INSERT INTO search_text (search_text, rank) VALUES ('automerge', 8);

-- A kind is one word that begins with U+E000: nothing that is searched for has that.
CREATE TRIGGER search_entry_insert AFTER INSERT ON search_entry WHEN new.active BEGIN
    INSERT INTO search_name (rowid, kind, lookup, title, aliases)
    VALUES (new.seq, char(57344) || replace(new.kind, '_', ''), new.lookup, new.title, new.aliases);
    INSERT INTO search_text (rowid, kind, lookup, title, aliases, body)
    VALUES (new.seq, char(57344) || replace(new.kind, '_', ''), new.lookup, new.title, new.aliases, new.body);
END;
CREATE TRIGGER search_entry_delete AFTER DELETE ON search_entry WHEN old.active BEGIN
    DELETE FROM search_name WHERE rowid = old.seq;
    DELETE FROM search_text WHERE rowid = old.seq;
END;
CREATE TRIGGER search_entry_before AFTER UPDATE ON search_entry WHEN old.active BEGIN
    DELETE FROM search_name WHERE rowid = old.seq;
    DELETE FROM search_text WHERE rowid = old.seq;
    INSERT INTO search_name (rowid, kind, lookup, title, aliases)
    SELECT new.seq, char(57344) || replace(new.kind, '_', ''), new.lookup, new.title, new.aliases WHERE new.active;
    INSERT INTO search_text (rowid, kind, lookup, title, aliases, body)
    SELECT new.seq, char(57344) || replace(new.kind, '_', ''), new.lookup, new.title, new.aliases, new.body
    WHERE new.active;
END;
CREATE TRIGGER search_entry_again AFTER UPDATE ON search_entry WHEN new.active AND NOT old.active BEGIN
    INSERT INTO search_name (rowid, kind, lookup, title, aliases)
    VALUES (new.seq, char(57344) || replace(new.kind, '_', ''), new.lookup, new.title, new.aliases);
    INSERT INTO search_text (rowid, kind, lookup, title, aliases, body)
    VALUES (new.seq, char(57344) || replace(new.kind, '_', ''), new.lookup, new.title, new.aliases, new.body);
END;

-- What is there already.
INSERT INTO search_entry (id, kind, ord, key, name, lookup, title, aliases, active, body)
SELECT id, 'technique', 0, mitre_id, name, lower(mitre_id), lower(substr(name, 1, 200)), char(10),
       NOT revoked AND NOT deprecated, substr(COALESCE(description, ''), 1, 8000)
FROM technique;
INSERT INTO search_entry (id, kind, ord, key, name, lookup, title, aliases, active, body)
SELECT id, 'template', 10, source_id, name, lower(substr(source_id, 1, 200)), lower(substr(name, 1, 200)), char(10),
       is_active AND NOT vanished,
       substr(mitre_technique_id || char(10) || COALESCE(description, '') || char(10) || COALESCE(attack_procedure, ''),
              1, 8000)
FROM template;

-- Lists leave out what is not active, and count.
CREATE INDEX knowledge_live ON knowledge (kind, revoked, deprecated, key);
