-- Requests to the webhooks that were turned away, for people who look for the reason. A sample, kept for a day: floods of
-- forgeries are counted (webhook_traffic) and not stored.
CREATE TABLE refused_requests (
    refused_at timestamptz NOT NULL,
    account text NOT NULL,
    status smallint NOT NULL,                -- what was answered
    cause text NOT NULL,                     -- in our own words: nothing of the request
    request_id uuid NOT NULL
);
CREATE INDEX refused_requests_newest ON refused_requests (account, refused_at DESC);

-- Rebuilds that somebody asked for on a page. Whoever does upkeep takes them up.
CREATE TABLE rebuild_orders (
    order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection text NOT NULL,
    dry_run boolean NOT NULL,                -- only what would change
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    begun_at timestamptz,
    ended_at timestamptz,
    outcome jsonb,                           -- how the rebuilt rows differ from the live ones
    error text
);
CREATE UNIQUE INDEX rebuild_orders_open ON rebuild_orders (projection) WHERE ended_at IS NULL;
