-- The ledger's own tables. Every key and every statement on the append path leads with `partition`, so that the same
-- schema runs on one machine (one partition), natively hash-partitioned, or distributed.
-- A line that ends in "-- distributable" may get PARTITION BY HASH (partition) (see ledger/store/migrations.py).

-- What was decided when the database was created and can never change.
CREATE TABLE ledger_constants (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- The last position, chain hash and recording time of each partition. Its row lock is the order of events.
CREATE TABLE partition_heads (
    partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    hash bytea NOT NULL,
    PRIMARY KEY (partition)
) WITH (fillfactor = 50);

-- The event store. Rows are only ever inserted.
CREATE TABLE events (
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    stream_id uuid NOT NULL,
    version integer NOT NULL,
    partition smallint NOT NULL,
    type text NOT NULL,
    hash bytea NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (partition, stream_id, version)
) ; -- distributable
CREATE UNIQUE INDEX events_position ON events (partition, position);

-- Data keys, one a message, wrapped by the master key. Deleting a row erases what was sealed under it.
CREATE TABLE message_keys (
    stream_id uuid NOT NULL,
    partition smallint NOT NULL,
    wrapped bytea NOT NULL,
    PRIMARY KEY (partition, stream_id)
) ; -- distributable

-- Where each message stands: one row a stream, written by the append, rebuilt from events.
CREATE TABLE current_status (
    message_id bigint NOT NULL,
    opened_at timestamptz NOT NULL,          -- recording time of the stream's first event
    last_updated timestamptz NOT NULL,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    failed_at timestamptz,
    stream_id uuid NOT NULL,
    linked_to uuid,                          -- set once another stream speaks for this message
    version integer NOT NULL,                -- of the stream, including registration and links
    partition smallint NOT NULL,
    account text NOT NULL,
    provider text NOT NULL,
    channel text NOT NULL,
    status text NOT NULL,
    conflict text NOT NULL,                  -- none; open: failed and delivered both claimed; settled: corrected
    failure_category text,
    provider_lookup bytea,                   -- only where the stream's name does not follow from the provider's id
    recipient_lookup bytea,
    reference_lookup bytea,
    state bytea NOT NULL,                    -- the folded message: open part, then sealed part
    PRIMARY KEY (partition, stream_id)
) ; -- distributable fillfactor=70
CREATE INDEX current_status_newest ON current_status (account, channel, opened_at DESC, message_id DESC)
    WHERE linked_to IS NULL;
CREATE INDEX current_status_provider_lookup ON current_status (provider_lookup) WHERE provider_lookup IS NOT NULL;
CREATE INDEX current_status_recipient_lookup ON current_status (recipient_lookup) WHERE recipient_lookup IS NOT NULL;
CREATE INDEX current_status_reference_lookup ON current_status (reference_lookup) WHERE reference_lookup IS NOT NULL;

-- Authentic requests, or items of them, from which nothing could be read; sealed, waiting for a newer adapter.
CREATE TABLE captures (
    capture_id uuid NOT NULL,                -- derived from account and content: a resend is counted, not stored again
    first_received_at timestamptz NOT NULL,
    last_received_at timestamptz NOT NULL,
    times_received integer NOT NULL DEFAULT 1,
    partition smallint NOT NULL,
    account text NOT NULL,
    provider text NOT NULL,
    reason text NOT NULL,
    wrapped bytea NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (partition, capture_id)
) ; -- distributable

-- API keys: only a keyed hash is kept.
CREATE TABLE api_keys (
    id text PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    account text NOT NULL,
    channel text NOT NULL,
    status_style text NOT NULL,              -- unified | channel
    state text NOT NULL,                     -- active; rotated: replaced by another key; revoked: withdrawn
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    replaced_by text REFERENCES api_keys (id)
);

-- Which stream an idempotency key opened, and a fingerprint of the request that came with it.
CREATE TABLE idempotency_claims (
    account text NOT NULL,
    key_hash bytea NOT NULL,
    fingerprint bytea NOT NULL,
    stream_id uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, key_hash)
);
CREATE INDEX idempotency_claims_age ON idempotency_claims (claimed_at);

-- Requests used by an API key in the current window; shared by all processes.
CREATE UNLOGGED TABLE rate_windows (
    key_id text PRIMARY KEY,
    window_start timestamptz NOT NULL,
    used integer NOT NULL
);
