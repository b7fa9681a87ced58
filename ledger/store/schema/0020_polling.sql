-- Asking providers. Who should be asked about, and why, is a read model (projections/poll_schedule.py). What is here is
-- the poller's own memory, which no rebuild touches. Functions take the time as an argument: null means the database's.

-- When each message of the schedule is asked about next, and how far asking has come.
CREATE TABLE poll_asks (
    next_at timestamptz NOT NULL,            -- infinity: not any more
    since timestamptz NOT NULL,              -- of the schedule's row that this is about
    stream_id uuid NOT NULL,
    asked integer NOT NULL DEFAULT 0,        -- questions that left
    partition smallint NOT NULL,
    account text NOT NULL,
    why text NOT NULL,
    answer text,                             -- what came of the last question
    PRIMARY KEY (partition, stream_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);  -- what is due is found in the index only if it is tidy
CREATE INDEX poll_asks_due ON poll_asks (account, next_at DESC, partition, stream_id) INCLUDE (since, why);

-- Each account's budget and breaker, shared by all pollers.
CREATE TABLE poll_accounts (
    account text PRIMARY KEY,
    next_slot_at timestamptz NOT NULL DEFAULT '-infinity',  -- when the next question may leave
    paused_until timestamptz,                -- the provider asked for fewer questions
    throttles integer NOT NULL DEFAULT 0,    -- how often, without an answer in between
    failures integer NOT NULL DEFAULT 0,     -- questions in a row that got no proper answer
    opened_at timestamptz,                   -- since when the breaker is open; null: closed
    open_until timestamptz,                  -- when one question may probe
    probes integer NOT NULL DEFAULT 0,       -- that failed since
    recovered_at timestamptz,                -- when it closed last: the rate climbs from then on
    why text,                                -- what opened it
    seen_at timestamptz,                     -- when a poller last looked
    walk_at timestamptz,                     -- when the list is to be walked next
    walk_since date,                         -- from which day the walk under way goes
    walk_target text,                        -- its next page; null: the first
    walk_until timestamptz                   -- whose claim on it runs out then
) WITH (fillfactor = 50);

-- Claims under way: which messages nobody else may ask about, how many questions at once, and until when that counts. A
-- claim is one row, so that it costs the same wherever its messages lie in the queue, which it only reads.
CREATE SEQUENCE poll_batch;
CREATE TABLE poll_batches (
    batch bigint PRIMARY KEY,
    until timestamptz NOT NULL,
    width integer NOT NULL,
    account text NOT NULL,
    streams uuid[] NOT NULL                  -- empty: one question about no message of the queue, as for a page of a list
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE poll_batches ALTER COLUMN streams SET STORAGE EXTERNAL;  -- ids do not compress
CREATE INDEX poll_batches_account ON poll_batches (account);

-- Answers that a provider gives only once, sealed, from their arrival until what they say is on record.
CREATE TABLE poll_answers (
    answer_id uuid PRIMARY KEY,
    stream_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    held_until timestamptz NOT NULL,         -- by whoever got it; after that, anybody may read it
    partition smallint NOT NULL,
    account text NOT NULL,
    wrapped bytea NOT NULL,
    sealed bytea NOT NULL
);

-- poll_is_held: whether what is somebody's until then still is. One that ends further ahead than anybody can have meant was
-- written under another clock.
CREATE FUNCTION poll_is_held(until timestamptz, at timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT until > at AND until < at + interval '1 hour'
$$;

-- poll_admit: how many questions an account may be asked now. Holds the account's row until the transaction ends.
-- OUT width: how many at once; first: when the first may leave; wait: seconds until it is worth looking again.
CREATE FUNCTION poll_admit(
    p_account text, p_most integer, p_width integer, p_concurrency integer, p_rate float8, p_ahead float8,
    p_now timestamptz, OUT n integer, OUT width integer, OUT is_probe boolean, OUT at timestamptz,
    OUT first timestamptz, OUT pace float8, OUT wait float8, OUT failures integer
)
LANGUAGE plpgsql AS $$
DECLARE
    a poll_accounts;
    room float8;
BEGIN
    INSERT INTO poll_accounts (account) VALUES (p_account) ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT a FROM poll_accounts WHERE account = p_account FOR UPDATE;
    at := coalesce(p_now, clock_timestamp());
    n := 0; width := 0; is_probe := false; pace := 1 / p_rate; wait := 1; failures := a.failures;
    -- A time further ahead than anybody can have meant was written under another clock.
    IF a.paused_until > at AND a.paused_until < at + interval '2 hours' THEN
        wait := extract(epoch FROM a.paused_until - at); RETURN;
    END IF;
    IF poll_is_held(a.open_until, at) THEN
        wait := extract(epoch FROM a.open_until - at); RETURN;
    END IF;
    is_probe := a.opened_at IS NOT NULL;
    DELETE FROM poll_batches b WHERE b.account = p_account AND NOT poll_is_held(b.until, at);  -- nobody's by now
    width := least(p_width, p_concurrency - (
        SELECT coalesce(sum(b.width), 0) FROM poll_batches b WHERE b.account = p_account)::integer);
    IF width <= 0 THEN RETURN; END IF;
    -- After an outage the rate climbs for a minute, from a tenth.
    IF a.recovered_at BETWEEN at - interval '1 minute' AND at THEN
        pace := pace / greatest(0.1, extract(epoch FROM at - a.recovered_at) / 60);
    END IF;
    first := greatest(a.next_slot_at, at);
    IF first > at + make_interval(secs => p_ahead + 10 * pace + 1) THEN first := at; END IF;
    room := extract(epoch FROM at - first) + p_ahead;
    IF room < 0 THEN wait := greatest(-room, 0.01); RETURN; END IF;
    n := least(p_most, CASE WHEN is_probe THEN 1 ELSE floor(room / pace)::integer + 1 END);
    IF is_probe THEN
        UPDATE poll_accounts SET open_until = at + interval '30 seconds' WHERE account = p_account;
    END IF;
END
$$;

-- poll_claim: the newest of what is due, as much as the account's budget allows, leased to the caller. If nothing is,
-- one row without a stream tells how long to wait. The due ones are found in the index alone. Claims of one account take
-- turns: poll_admit holds its row. What
-- others hold comes first in the index and is passed over: no more of it than all claims of the account together.
CREATE FUNCTION poll_claim(
    p_account text, p_most integer, p_width integer, p_concurrency integer, p_rate float8, p_ahead float8,
    p_lease float8, p_now timestamptz
)
RETURNS TABLE (at timestamptz, batch bigint, width integer, failures integer, wait float8, partition smallint,
               stream_id uuid, why text, since timestamptz, due_at timestamptz, delay float8)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    adm record;
    own bigint;
    taken integer := 0;
    lease_ends timestamptz;
BEGIN
    adm := poll_admit(p_account, p_most, p_width, p_concurrency, p_rate, p_ahead, p_now);
    IF adm.n > 0 THEN
        lease_ends := adm.at + make_interval(secs => p_lease);
        own := nextval('poll_batch');
        RETURN QUERY
            WITH due AS MATERIALIZED (
                SELECT d.partition, d.stream_id, d.why, d.since, d.next_at FROM poll_asks d
                 WHERE d.account = p_account AND d.next_at <= adm.at
                   AND d.stream_id NOT IN (SELECT unnest(b.streams) FROM poll_batches b WHERE b.account = p_account)
                 ORDER BY d.next_at DESC LIMIT adm.n
            ), leased AS (
                INSERT INTO poll_batches (batch, account, width, until, streams)
                SELECT own, p_account, adm.width, lease_ends, array_agg(due.stream_id) FROM due HAVING count(*) > 0
            )
            SELECT adm.at, own, adm.width, adm.failures, 0::float8, d.partition, d.stream_id, d.why, d.since, d.next_at,
                   extract(epoch FROM adm.first - adm.at)::float8
                   + (row_number() OVER (ORDER BY d.next_at DESC) - 1) * adm.pace
              FROM due d;
        GET DIAGNOSTICS taken = ROW_COUNT;
        IF taken > 0 THEN
            UPDATE poll_accounts SET next_slot_at = adm.first + make_interval(secs => taken * adm.pace),
                   seen_at = adm.at
             WHERE account = p_account;
            RETURN;
        END IF;
        IF adm.is_probe THEN  -- nothing to probe with: the next one may
            UPDATE poll_accounts SET open_until = adm.at WHERE account = p_account;
        END IF;
        adm.wait := 1;
    END IF;
    UPDATE poll_accounts SET seen_at = adm.at
     WHERE account = p_account AND (seen_at IS NULL OR seen_at < adm.at - interval '10 seconds');
    RETURN QUERY SELECT adm.at, NULL::bigint, 0, adm.failures, adm.wait, NULL::smallint, NULL::uuid, NULL::text,
        NULL::timestamptz, NULL::timestamptz, 0::float8;
END
$$;

-- poll_place: the place of one question outside of any claim, held until it is given back or the lease runs out. Where
-- it is about a message of the queue, nobody else asks about that. OUT batch: null if there is no place; wait: seconds
-- until the question may leave, or until it is worth looking again.
CREATE FUNCTION poll_place(
    p_account text, p_stream uuid, p_concurrency integer, p_rate float8, p_ahead float8, p_lease float8,
    p_now timestamptz, OUT batch bigint, OUT wait float8
)
LANGUAGE plpgsql AS $$
DECLARE
    adm record;
BEGIN
    adm := poll_admit(p_account, 1, 1, p_concurrency, p_rate, p_ahead, p_now);
    wait := adm.wait;
    IF adm.n = 0 THEN RETURN; END IF;
    batch := nextval('poll_batch');
    wait := extract(epoch FROM adm.first - adm.at);
    INSERT INTO poll_batches VALUES (batch, adm.at + make_interval(secs => p_lease), 1, p_account,
        array_remove(ARRAY[p_stream], NULL));
    UPDATE poll_accounts SET next_slot_at = adm.first + make_interval(secs => adm.pace) WHERE account = p_account;
END
$$;

-- poll_tell: what answers mean for an account's breaker and pause. `p_failed` is how many in the end got no proper
-- answer, `p_pause` for how long the provider wants to be left alone (null: it does not), `p_refused` that it does not
-- accept our credentials, `p_since` when they were claimed (null: just now): what was claimed before the breaker opened
-- does not close it. Returns opened, closed or nothing.
CREATE FUNCTION poll_tell(
    p_account text, p_answered integer, p_failed integer, p_pause float8, p_refused boolean, p_why text,
    p_chance float8, p_since timestamptz, p_now timestamptz
)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    a poll_accounts;
    at timestamptz;
    changed text := '';
BEGIN
    SELECT * INTO a FROM poll_accounts WHERE account = p_account FOR UPDATE;
    IF NOT FOUND THEN RETURN ''; END IF;
    at := coalesce(p_now, clock_timestamp());
    IF p_pause IS NOT NULL THEN
        a.paused_until := greatest(a.paused_until, at + make_interval(secs => p_pause));
        a.throttles := a.throttles + 1;
    ELSIF p_answered > 0 THEN
        a.throttles := 0;
    END IF;
    a.failures := CASE WHEN p_answered > 0 THEN 0 ELSE a.failures END + p_failed;
    IF p_refused OR (p_failed > 0 AND (a.failures >= 5 OR a.opened_at IS NOT NULL)) THEN
        IF a.opened_at IS NULL THEN
            changed := 'opened'; a.opened_at := at; a.probes := 0;
        ELSE
            a.probes := a.probes + 1;
        END IF;
        a.why := p_why;
        a.open_until := at + make_interval(secs => (1 + 0.2 * p_chance)
            * CASE WHEN p_refused THEN 300 ELSE least(300, 30 * 2 ^ least(a.probes, 4)) END);
    ELSIF a.opened_at IS NOT NULL AND p_answered > 0 AND (a.opened_at BETWEEN p_since AND at) IS NOT TRUE THEN
        changed := 'closed'; a.opened_at := NULL; a.open_until := NULL; a.probes := 0; a.why := NULL;
        a.recovered_at := at;
    END IF;
    UPDATE poll_accounts SET paused_until = a.paused_until, throttles = a.throttles, failures = a.failures,
           opened_at = a.opened_at, open_until = a.open_until, probes = a.probes, recovered_at = a.recovered_at,
           why = a.why
     WHERE account = p_account;
    RETURN changed;
END
$$;

-- poll_settle: ends a batch. Each message gets its next time: so many seconds from now, or never, or the one it had. What
-- has a new reason since stays as it is, and all of it if the batch has run out and somebody has claimed since. Returns
-- how many messages were held.
CREATE FUNCTION poll_settle(
    p_batch bigint, s_partition smallint[], s_stream uuid[], s_since timestamptz[], s_after float8[], s_over boolean[],
    s_asked boolean[], s_answer text[], p_now timestamptz
)
RETURNS bigint
LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
    WITH ended AS (
        DELETE FROM poll_batches WHERE batch = p_batch RETURNING streams
    ), settled AS (
        UPDATE poll_asks q
           SET answer = coalesce(s.answer, q.answer), asked = q.asked + s.asked::integer,
               next_at = CASE WHEN s.over THEN 'infinity' WHEN s.after IS NULL THEN q.next_at
                              ELSE coalesce(p_now, clock_timestamp()) + make_interval(secs => s.after) END
          FROM ended, unnest(s_partition, s_stream, s_since, s_after, s_over, s_asked, s_answer)
               AS s (partition, stream_id, since, after, over, asked, answer)
         WHERE q.partition = s.partition AND q.stream_id = s.stream_id AND q.since = s.since
           AND (s.asked OR s.over OR s.after IS NOT NULL OR s.answer IS NOT NULL)
    )
    SELECT coalesce((SELECT cardinality(streams) FROM ended), 0);
$$;
