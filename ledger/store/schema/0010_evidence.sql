-- Evidence: checkpoints, the nodes of the Merkle tree, erasures, legal holds, archives, and who has read what.

-- What a ledger calls itself in its checkpoints. A ledger that was restored to an earlier time has gone another way than
-- the checkpoints that it had published, and signs under another name from there on.
CREATE TABLE log_names (
    number integer PRIMARY KEY,              -- 1, 2, …: the last one is in use
    name text NOT NULL UNIQUE,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    positions jsonb,                         -- by partition, up to where it is as published before
    begun_by text,                           -- null for the first one
    why text
);
INSERT INTO log_names (number, name) VALUES (1, 'status-ledger/' || replace(gen_random_uuid()::text, '-', ''));

-- Signed statements about the log. The copies that prove anything are those outside of this database.
CREATE TABLE checkpoints (
    partition smallint NOT NULL,
    position bigint NOT NULL,
    name_number integer NOT NULL REFERENCES log_names (number),
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    note text NOT NULL,
    PRIMARY KEY (partition, name_number, position)
);

-- Roots of complete subtrees of 256, 65,536, … leaves. Derived: made again from the events' hashes whenever they are gone.
CREATE TABLE merkle_nodes (
    partition smallint NOT NULL,
    level smallint NOT NULL,                 -- 8: of 256 leaves; 16: of 65,536; …
    at bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (partition, level, at)
);

-- What each receiver of checkpoints has got, so that it is told how the log has grown since.
CREATE TABLE checkpoint_deliveries (
    receiver bytea NOT NULL,                 -- SHA-256 of its address: addresses may hold a token
    partition smallint NOT NULL,
    log_name text NOT NULL,
    position bigint NOT NULL,
    delivered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    answer text,                             -- its signatures, if it is a witness
    PRIMARY KEY (receiver, partition, log_name)
);

-- Erasures that were carried out, each with its certificate. The streams are keyed digests and name nobody.
CREATE TABLE erasures (
    erasure_id uuid PRIMARY KEY,
    erased_at timestamptz NOT NULL,
    erased_by text NOT NULL,
    why text NOT NULL,
    streams integer NOT NULL,
    certificate text NOT NULL
);

-- Messages that may neither be erased nor leave the log until the hold is released.
CREATE TABLE holds (
    partition smallint NOT NULL,
    stream_id uuid NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    held_by text NOT NULL,
    why text NOT NULL,
    PRIMARY KEY (partition, stream_id)
);

-- Ranges of positions of which rows have left the log for a file.
CREATE TABLE archives (
    partition smallint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    removed bigint NOT NULL,                 -- rows; those of messages that went on or are held have stayed
    file text NOT NULL,                      -- its name
    digest bytea NOT NULL,                   -- SHA-256 of the file
    archived_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    archived_by text NOT NULL,
    PRIMARY KEY (partition, first)
);
-- The hashes of such a range, 256 in a row: with them the chain and the tree still fit.
CREATE TABLE archived_hashes (
    partition smallint NOT NULL,
    tile bigint NOT NULL,                    -- positions tile * 256 + 1 to tile * 256 + 256
    hashes bytea NOT NULL,
    PRIMARY KEY (partition, tile)
);
-- Messages whose events are in an archive, by the place of their first event, as message ids name it.
CREATE TABLE archived_messages (
    partition smallint NOT NULL,
    position bigint NOT NULL,
    stream_id uuid NOT NULL,
    last_position bigint NOT NULL,           -- of its last event
    PRIMARY KEY (partition, position)
);
CREATE UNIQUE INDEX archived_messages_stream ON archived_messages (partition, stream_id);

-- Who read or took out what. Written before the answer is given.
CREATE TABLE access_log (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL,                       -- an API key's id, or the user who gave a command, as user@host
    did text NOT NULL,                       -- history, export, erase, correct, …
    message_id bigint,                       -- null for what concerns many or none
    account text,
    detail text                              -- how many, which file, what reason: nothing personal
);
CREATE INDEX access_log_message ON access_log (message_id, number) WHERE message_id IS NOT NULL;
