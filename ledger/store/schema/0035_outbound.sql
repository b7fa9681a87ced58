-- What is sent out about status changes, and to whom. The changes themselves are derived from events
-- (projections/status_changes.py) and can be derived again. What stands here is what happened outside and the only record
-- of it: deriving changes again sends nothing, because what has been handed on is told by `outbound_positions` alone.

-- How far status changes have been handed on to destinations.
CREATE TABLE outbound_positions (
    partition smallint NOT NULL PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0
);

-- Where status changes go.
CREATE TABLE destinations (
    id text PRIMARY KEY,
    uid uuid NOT NULL UNIQUE,                -- what sealed data is bound to
    kind text NOT NULL,                      -- webhook | hubspot; deleted: its deliveries are being cleared away
    account text NOT NULL,
    channel text,                            -- null: every channel
    statuses text[],                         -- null: every status
    wrapped bytea NOT NULL,                  -- data key, wrapped by the master key
    sealed bytea NOT NULL,                   -- address, description and secrets
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz,
    disabled_reason text,                    -- requested; gone: it answered 410; failing: nothing but failures for days
    failures integer NOT NULL DEFAULT 0,     -- since the last success
    failing_since timestamptz,               -- the first of them
    last_failed_at timestamptz,
    last_succeeded_at timestamptz,
    paused_until timestamptz NOT NULL DEFAULT '-infinity',
    leased_until timestamptz NOT NULL DEFAULT '-infinity',  -- of destinations that one worker serves at a time
    fence integer NOT NULL DEFAULT 0
);
CREATE INDEX destinations_by_account ON destinations (account, channel);

-- What became of a status change at a destination.
CREATE TABLE deliveries (
    recorded_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    settled_at timestamptz,
    position bigint NOT NULL,
    message_id bigint,                       -- as told at the first attempt
    stream_id uuid NOT NULL,
    lane uuid NOT NULL,                      -- what shares it is told one after the other
    version integer NOT NULL,                -- of the stream
    message_version integer,                 -- the same
    status text,                             -- the same
    tries integer NOT NULL DEFAULT 0,        -- since it was last begun
    attempts integer NOT NULL DEFAULT 0,     -- in all
    fence integer NOT NULL DEFAULT 0,        -- counts leases: what an older lease reports is not believed
    resends integer NOT NULL DEFAULT 0,      -- that were asked for under an id of their own
    partition smallint NOT NULL,
    destination_id text NOT NULL REFERENCES destinations (id) ON DELETE CASCADE,
    state text NOT NULL,                     -- pending; delivered; parked: given up; held: the destination was disabled
    why text,                                -- of a parked one
    PRIMARY KEY (destination_id, partition, position)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_due ON deliveries (destination_id, next_at) WHERE state = 'pending';
CREATE INDEX deliveries_lane ON deliveries (destination_id, lane, recorded_at, position) WHERE state = 'pending';
CREATE INDEX deliveries_newest ON deliveries (destination_id, recorded_at DESC, position DESC);
CREATE INDEX deliveries_by_stream ON deliveries (stream_id);
CREATE INDEX deliveries_settled ON deliveries (settled_at) WHERE settled_at IS NOT NULL;

-- Every attempt.
CREATE TABLE delivery_attempts (
    attempted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    position bigint NOT NULL,
    number integer NOT NULL,                 -- 1, 2, 3, … of a delivery
    milliseconds integer NOT NULL,
    partition smallint NOT NULL,
    answer smallint,                         -- HTTP status, if there was one
    destination_id text NOT NULL,
    outcome text NOT NULL,
    sealed bytea,                            -- the beginning of what was answered
    PRIMARY KEY (destination_id, partition, position, number),
    FOREIGN KEY (destination_id, partition, position) REFERENCES deliveries ON DELETE CASCADE
);

-- What the owner of a destination should know.
CREATE TABLE destination_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    noticed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    destination_id text NOT NULL REFERENCES destinations (id) ON DELETE CASCADE,
    what text NOT NULL,                      -- failing | disabled | enabled | recovered
    why text
);
CREATE INDEX destination_notices_newest ON destination_notices (destination_id, id DESC);
