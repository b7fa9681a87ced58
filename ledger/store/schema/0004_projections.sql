-- Read models that follow the log: which generations of their tables there are, and how far each has read.

-- A projection's tables are named `<table>_<generation>`. Readers use the live generation; a rebuild fills another one.
CREATE TABLE projection_generations (
    projection text NOT NULL,
    generation integer NOT NULL,
    shape integer NOT NULL,                  -- of its tables; code of another shape has a live generation of its own
    rules text NOT NULL,                     -- by which events were read, such as the catalogue of failure reasons
    state text NOT NULL,                     -- building; live; retired: its tables may be dropped
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    exchanged_at timestamptz,                -- when it became live, or ceased to be
    PRIMARY KEY (projection, generation)
);
CREATE UNIQUE INDEX projection_generations_live ON projection_generations (projection, shape) WHERE state = 'live';

-- Everything up to `position` has been applied, in the same transactions as it was moved here. The row lock is the claim.
CREATE TABLE projection_cursors (
    projection text NOT NULL,
    generation integer NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz,                 -- of the last event applied
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rate real NOT NULL DEFAULT 0,            -- events a second, smoothed over about ten seconds of work
    lag_before bigint NOT NULL DEFAULT 0,    -- events behind when it was last noted, for the trend
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, generation, partition)
) WITH (fillfactor = 50);

-- Shares of a rebuild: streams of a partition from one bucket to another, as far as the log had come when it began.
CREATE TABLE projection_portions (
    projection text NOT NULL,
    generation integer NOT NULL,
    partition smallint NOT NULL,
    first_bucket smallint NOT NULL,
    last_bucket smallint NOT NULL,
    until_position bigint NOT NULL,
    events bigint,                           -- that it had; NULL until it is built
    PRIMARY KEY (projection, generation, partition, first_bucket)
);

-- Events that a projection could not apply. Nothing of the event is repeated here: only where it is and what failed.
CREATE TABLE parked_events (
    projection text NOT NULL,
    generation integer NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, generation, partition, position)
);

-- What came to /webhooks, by minute: the only thing that tells a silent provider from refused signatures.
CREATE TABLE webhook_traffic (
    account text NOT NULL,
    minute timestamptz NOT NULL,
    accepted bigint NOT NULL DEFAULT 0,
    not_authentic bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,       -- too large, wrong content type, unreadable and not attributable
    unavailable bigint NOT NULL DEFAULT 0,   -- answered 503
    last_accepted_at timestamptz,
    PRIMARY KEY (account, minute)
);
CREATE INDEX webhook_traffic_age ON webhook_traffic (minute);

-- Set once a newer adapter has read it and what it says is on record.
ALTER TABLE captures ADD COLUMN reread_at timestamptz;

-- What a person has dealt with. It shows again once something newer than `seen_through` happens to it.
CREATE TABLE attention_resolutions (
    account text NOT NULL,
    channel text NOT NULL,
    item text NOT NULL,
    seen_through timestamptz NOT NULL,
    resolved_by text NOT NULL,
    why text NOT NULL,
    resolved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, channel, item)
);

-- Nothing in it changes when a message advances: such updates touch no index.
CREATE INDEX current_status_conflicts ON current_status (account, channel, opened_at)
    WHERE conflict = 'open' AND linked_to IS NULL;
