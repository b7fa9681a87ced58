"""Statements of the poller's memory (`ledger.store.polls`); what they call is in `schema/0020_polling.sql`."""

from typing import Final

_CLOCK: Final = b"coalesce(%(now)s::timestamptz, clock_timestamp())"


def _clocked(statement: bytes) -> bytes:
    """Return a statement with NOW as the time that a test may choose."""
    return statement.replace(b"NOW", _CLOCK)


CLAIM: Final = b"""
SELECT at, batch, width, failures, wait, partition, stream_id, why, since, due_at, delay
  FROM poll_claim(%(account)s, %(most)s::integer, %(width)s::integer, %(concurrency)s::integer, %(rate)s::float8,
                  %(ahead)s::float8, %(lease)s::float8, %(now)s)
"""
SETTLE: Final = b"""
SELECT poll_settle(%(batch)s, %(partitions)s::smallint[], %(streams)s::uuid[], %(since)s::timestamptz[],
                   %(after)s::float8[], %(over)s::boolean[], %(asked)s::boolean[], %(answers)s::text[], %(now)s)
"""
IS_OURS: Final = b"SELECT FROM poll_batches WHERE batch = %(batch)s"
IS_HELD_OFF: Final = _clocked(b"""
SELECT FROM poll_accounts
 WHERE account = %(account)s
   AND (opened_at > %(since)s OR paused_until > NOW AND paused_until < NOW + interval '2 hours')
""")
PAUSE: Final = _clocked(b"""
UPDATE poll_accounts SET paused_until = greatest(paused_until, NOW + make_interval(secs => %(seconds)s::float8))
 WHERE account = %(account)s
""")
TELL: Final = b"""
SELECT poll_tell(%(account)s, %(answered)s::integer, %(failed)s::integer, %(pause)s::float8, %(refused)s, %(why)s,
                 %(chance)s::float8, %(since)s::timestamptz, %(now)s)
"""
THROTTLES: Final = b"SELECT throttles FROM poll_accounts WHERE account = %(account)s"
IS_OPEN: Final = b"SELECT FROM poll_accounts WHERE account = %(account)s AND opened_at IS NOT NULL"
PLACE: Final = b"""
SELECT batch, wait
  FROM poll_place(%(account)s, %(stream)s::uuid, %(concurrency)s::integer, %(rate)s::float8, 10, %(lease)s::float8,
                  %(now)s)
"""
LEAVE: Final = b"DELETE FROM poll_batches WHERE batch = %(batch)s"
ENQUEUE: Final = b"""
INSERT INTO poll_asks AS q (partition, stream_id, account, why, since, next_at)
SELECT * FROM unnest(%(partitions)s, %(streams)s, %(accounts)s, %(whys)s, %(since)s, %(next)s)
ON CONFLICT (partition, stream_id) DO UPDATE
   SET why = excluded.why, since = excluded.since, next_at = excluded.next_at, asked = 0, answer = NULL
 WHERE q.since < excluded.since
"""
#: Before `DEQUEUE`: waits for whoever is settling one of these, so that the next statement sees what became of it. A
#: row that changes while a statement runs is no longer where that statement looks for it.
LOCK: Final = b"""
SELECT FROM unnest(%(partitions)s, %(streams)s) AS s (partition, stream_id)
 CROSS JOIN LATERAL (SELECT FROM poll_asks q
                      WHERE q.partition = s.partition AND q.stream_id = s.stream_id LIMIT 1 FOR UPDATE) q
"""
DEQUEUE: Final = b"""
DELETE FROM poll_asks WHERE ctid = ANY (ARRAY(
    SELECT q.place FROM unnest(%(partitions)s, %(streams)s) AS s (partition, stream_id)
     CROSS JOIN LATERAL (SELECT q.ctid AS place FROM poll_asks q
                          WHERE q.partition = s.partition AND q.stream_id = s.stream_id LIMIT 1) q))
"""
ADOPT: Final = """
INSERT INTO poll_asks AS q (partition, stream_id, account, why, since, next_at)
SELECT s.partition, s.stream_id, s.account, s.why, s.since,
       clock_timestamp() + interval '10 seconds' + random() * interval '20 seconds'
  FROM {} s
 WHERE s.why IS NOT NULL
   AND NOT EXISTS (SELECT FROM poll_asks q WHERE q.partition = s.partition AND q.stream_id = s.stream_id
                      AND q.since = s.since)
ON CONFLICT (partition, stream_id) DO UPDATE
   SET why = excluded.why, since = excluded.since, next_at = excluded.next_at, asked = 0, answer = NULL
"""
ORPHANS: Final = """
DELETE FROM poll_asks q WHERE NOT EXISTS (
    SELECT FROM {} s WHERE s.partition = q.partition AND s.stream_id = q.stream_id AND s.why IS NOT NULL)
"""
#: Further ahead than anybody waits: written under another clock.
STRAYED: Final = b"""
UPDATE poll_asks SET next_at = clock_timestamp() + interval '10 seconds' + random() * interval '20 seconds'
 WHERE next_at > clock_timestamp() + interval '2 days' AND next_at < 'infinity'
"""
#: Claims that ran out long ago, of accounts that nobody asks about any more.
LEFT_OVER: Final = b"DELETE FROM poll_batches WHERE until < clock_timestamp() - interval '1 hour'"
_HELD: Final = b"(SELECT unnest(b.streams) FROM poll_batches b WHERE poll_is_held(b.until, NOW))"
COUNTS: Final = _clocked(
    b"""
SELECT account, count(*) FILTER (WHERE next_at <= at AND NOT is_held),
       count(*) FILTER (WHERE next_at > at AND next_at < 'infinity' AND NOT is_held),
       count(*) FILTER (WHERE next_at = 'infinity' AND why IN ('no_status', 'no_outcome')),
       count(*) FILTER (WHERE is_held)
  FROM (SELECT q.account, q.next_at, q.why, q.stream_id IN HELD AS is_held, NOW AS at
          FROM poll_asks q WHERE q.account = ANY(%(accounts)s::text[])) AS queued
 GROUP BY account
""".replace(b"HELD", _HELD)
)
STATES: Final = _clocked(b"""
SELECT account, CASE WHEN opened_at IS NULL THEN 'closed' WHEN open_until > NOW THEN 'open' ELSE 'probing' END,
       why, open_until, CASE WHEN paused_until > NOW THEN paused_until END, failures, walk_at
  FROM poll_accounts WHERE account = ANY(%(accounts)s::text[])
""")
NEXT: Final = _clocked(
    b"""
SELECT stream_id, why, next_at, asked, answer FROM poll_asks
 WHERE account = %(account)s AND next_at <= NOW AND stream_id NOT IN HELD
 ORDER BY next_at DESC LIMIT %(limit)s
""".replace(b"HELD", _HELD)
)
OF_STREAM: Final = b"""
SELECT since, CASE WHEN next_at < 'infinity' THEN next_at END, asked, answer FROM poll_asks
 WHERE partition = %(partition)s AND stream_id = %(stream)s
"""
MEET: Final = _clocked(b"""
INSERT INTO poll_accounts (account, walk_at) VALUES (%(account)s, NOW + interval '1 day') ON CONFLICT DO NOTHING
""")
START: Final = _clocked(b"""
UPDATE poll_accounts a
   SET seen_at = NOW, walk_at = CASE WHEN before.absent THEN NOW ELSE coalesce(a.walk_at, NOW + interval '1 day') END
  FROM (SELECT coalesce(seen_at < NOW - make_interval(secs => %(absent)s::float8), false) AS absent
          FROM poll_accounts WHERE account = %(account)s FOR UPDATE) AS before
 WHERE account = %(account)s
RETURNING before.absent
""")
CLAIM_WALK: Final = _clocked(b"""
UPDATE poll_accounts
   SET walk_until = NOW + make_interval(secs => %(lease)s::float8),
       walk_since = coalesce(walk_since, (NOW AT TIME ZONE 'UTC')::date - %(days)s::integer)
 WHERE account = %(account)s AND NOT coalesce(poll_is_held(walk_until, NOW), false)
   AND (walk_since IS NOT NULL OR walk_at <= NOW OR walk_at > NOW + interval '2 days')
RETURNING walk_since, walk_target
""")
CONTINUE_WALK: Final = _clocked(b"""
UPDATE poll_accounts SET walk_target = %(target)s, walk_until = NOW + make_interval(secs => %(lease)s::float8)
 WHERE account = %(account)s
""")
LEAVE_WALK: Final = _clocked(b"""
UPDATE poll_accounts SET walk_until = NOW + make_interval(secs => %(lease)s::float8) WHERE account = %(account)s
""")
END_WALK: Final = _clocked(b"""
UPDATE poll_accounts
   SET walk_since = NULL, walk_target = NULL, walk_until = NULL, walk_at = NOW + %(pause)s::interval
 WHERE account = %(account)s
""")
KEEP: Final = _clocked(b"""
INSERT INTO poll_answers (answer_id, partition, stream_id, account, received_at, held_until, wrapped, sealed)
VALUES (%(answer)s, %(partition)s, %(stream)s, %(account)s, %(received_at)s,
        NOW + make_interval(secs => %(lease)s::float8), %(wrapped)s, %(sealed)s)
""")
FORGET: Final = b"DELETE FROM poll_answers WHERE answer_id = %(answer)s"
LEFT_BEHIND: Final = _clocked(b"""
UPDATE poll_answers a SET held_until = NOW + make_interval(secs => %(lease)s::float8)
  FROM (SELECT answer_id FROM poll_answers WHERE account = %(account)s AND NOT poll_is_held(held_until, NOW)
         ORDER BY received_at LIMIT 100 FOR UPDATE SKIP LOCKED) AS free
 WHERE a.answer_id = free.answer_id
RETURNING a.answer_id, a.stream_id, a.received_at, a.wrapped, a.sealed
""")
