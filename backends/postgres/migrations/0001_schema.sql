-- One row for each key that exists. The order of keys is that of their bytes.
CREATE TABLE @schema@.records (
    key      text COLLATE "C" PRIMARY KEY,
    value    bytea  NOT NULL,
    revision bigint NOT NULL CHECK (revision > 0)
);
-- Ciphertext does not compress: do not try.
ALTER TABLE @schema@.records ALTER COLUMN value SET STORAGE EXTERNAL;

-- The append-only log, numbered from 1 without gaps.
--   hash = SHA-256("sidevault log v1" || 0x00 || seq as 8 bytes, big-endian || prev || body)
CREATE TABLE @schema@.log (
    seq  bigint PRIMARY KEY CHECK (seq > 0),
    prev bytea NOT NULL CHECK (octet_length(prev) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    body bytea NOT NULL
);

-- The keys that each commit put or deleted, for watchers. Those of the revisions
-- up to head.floor are gone.
CREATE TABLE @schema@.changes (
    revision bigint PRIMARY KEY,
    keys     text[] NOT NULL
);

-- The last commit's revision, and the number and the hash of the last log entry.
-- Every commit locks this row: that is what orders commits.
CREATE TABLE @schema@.head (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    revision bigint NOT NULL CHECK (revision >= 0),
    seq      bigint NOT NULL CHECK (seq >= 0),
    hash     bytea  NOT NULL CHECK (octet_length(hash) = 32),
    floor    bigint NOT NULL CHECK (floor >= 0 AND floor <= revision)
) WITH (fillfactor = 10);
INSERT INTO @schema@.head (revision, seq, hash, floor) VALUES (0, 0, decode(repeat('00', 32), 'hex'), 0);

-- commit_batches applies batches one after the other, each whole or not at all, and
-- answers one row for each: its revision, or the key that refused it and the
-- revision which that key has. Batch i has puts[i] puts, deletes[i] deletes,
-- checks[i] checks, whose keys and expected revisions follow each other in this
-- order in keys and expected, and entries[i] log entries. Of the changes, those of
-- the last history revisions are kept, and up to 256 more.
CREATE FUNCTION @schema@.commit_batches(
    puts int[], deletes int[], checks int[], entries int[],
    keys text[], expected bigint[], contents bytea[], bodies bytea[], history bigint)
RETURNS TABLE (committed bigint, refused_key text, refused_at bigint)
LANGUAGE plpgsql AS $function$
#variable_conflict use_column
DECLARE
    h        @schema@.head%ROWTYPE;
    before   bigint;
    notify   boolean := false;
    first    int;      -- the batch's first key
    put_end  int;      -- its last put
    changed  int;      -- its last delete
    last     int := 0; -- its last key
    content  int := 0; -- contents used up
    entry    int := 0; -- bodies used up
    previous bytea;
BEGIN
    -- A commit that is acknowledged is on the disk, whatever the server's default.
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    SELECT * INTO STRICT h FROM @schema@.head FOR UPDATE;
    before := h.revision;
    FOR i IN 1..cardinality(puts) LOOP
        first := last + 1;
        put_end := last + puts[i];
        changed := put_end + deletes[i];
        last := changed + checks[i];
        committed := 0;
        refused_key := NULL;
        IF last >= first THEN
            SELECT k.key, coalesce(r.revision, 0) INTO refused_key, refused_at
            FROM unnest(keys[first:last], expected[first:last]) AS k (key, at)
            LEFT JOIN @schema@.records r ON r.key = k.key COLLATE "C"
            WHERE coalesce(r.revision, 0) <> k.at
            LIMIT 1;
        END IF;
        IF refused_key IS NOT NULL THEN
            content := content + puts[i];
            entry := entry + entries[i];
            RETURN NEXT;
            CONTINUE;
        END IF;
        refused_at := 0;
        h.revision := h.revision + 1;
        committed := h.revision;
        IF puts[i] > 0 THEN
            INSERT INTO @schema@.records (key, value, revision)
            SELECT p.key, p.value, h.revision
            FROM unnest(keys[first:put_end], contents[content + 1:content + puts[i]]) AS p (key, value)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision;
            content := content + puts[i];
        END IF;
        IF deletes[i] > 0 THEN
            DELETE FROM @schema@.records WHERE key = ANY (keys[put_end + 1:changed]);
        END IF;
        IF changed >= first THEN
            INSERT INTO @schema@.changes (revision, keys) VALUES (h.revision, keys[first:changed]);
            notify := true;
        END IF;
        FOR j IN 1..entries[i] LOOP
            entry := entry + 1;
            previous := h.hash;
            h.seq := h.seq + 1;
            h.hash := sha256(decode('736964657661756c74206c6f6720763100', 'hex') || int8send(h.seq) || previous || bodies[entry]);
            INSERT INTO @schema@.log (seq, prev, hash, body) VALUES (h.seq, previous, h.hash, bodies[entry]);
        END LOOP;
        RETURN NEXT;
    END LOOP;
    IF h.revision = before THEN
        RETURN;
    END IF;
    IF h.revision - history >= h.floor + 256 THEN
        DELETE FROM @schema@.changes WHERE revision > h.floor AND revision <= h.revision - history;
        h.floor := h.revision - history;
    END IF;
    UPDATE @schema@.head SET revision = h.revision, seq = h.seq, hash = h.hash, floor = h.floor;
    IF notify THEN
        PERFORM pg_notify(@channel@, h.revision::text);
    END IF;
END
$function$;
