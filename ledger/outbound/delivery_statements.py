"""The statements of `ledger.outbound.deliveries`.

Those with `{status_changes}` in them are about the generation of that read model which is live.
"""

from typing import Final

#: Partitions with status changes that have not been handed on.
BEHIND: Final = """
SELECT s.partition FROM (SELECT DISTINCT partition FROM partition_heads) s
 WHERE EXISTS (SELECT FROM {status_changes} c
                WHERE c.partition = s.partition
                  AND c.position > coalesce((SELECT position FROM outbound_positions o
                                              WHERE o.partition = s.partition), 0))
"""
OPEN_POSITION: Final = b"INSERT INTO outbound_positions (partition) VALUES (%s) ON CONFLICT DO NOTHING"
LOCK_POSITION: Final = b"SELECT position FROM outbound_positions WHERE partition = %s FOR UPDATE SKIP LOCKED"
PAGE_END: Final = """
SELECT max(position), count(*)
  FROM (SELECT position FROM {status_changes} WHERE partition = %s AND position > %s ORDER BY position LIMIT %s) page
"""
MAKE_DELIVERIES: Final = """
INSERT INTO deliveries (destination_id, partition, position, stream_id, lane, version, recorded_at, state, next_at)
SELECT d.id, s.partition, s.position, s.stream_id, s.stream_id, s.version, s.recorded_at,
       CASE WHEN d.disabled_at IS NULL THEN 'pending' ELSE 'held' END, clock_timestamp()
  FROM {status_changes} s
  JOIN destinations d ON d.kind <> 'deleted' AND d.account = s.account AND coalesce(d.channel, s.channel) = s.channel
                     AND (s.merges IS NOT NULL OR s.status = ANY(coalesce(d.statuses, ARRAY[s.status])))
                     AND s.recorded_at >= d.created_at
 WHERE s.partition = %(partition)s AND s.position > %(after)s AND s.position <= %(until)s AND s.joins IS NULL
ON CONFLICT DO NOTHING
"""
#: What the sender's stream has left goes first: it joins the lane of the stream that goes on.
JOIN_LANES: Final = """
UPDATE deliveries d SET lane = s.joins
  FROM {status_changes} s
 WHERE s.partition = %(partition)s AND s.position > %(after)s AND s.position <= %(until)s AND s.joins IS NOT NULL
   AND d.stream_id = s.stream_id AND d.lane <> s.joins
"""
MOVE_POSITION: Final = b"UPDATE outbound_positions SET position = %s WHERE partition = %s"
CLAIM: Final = b"""
WITH due AS (
    SELECT c.* FROM destinations d
      LEFT JOIN unnest(%(busy_ids)s::text[], %(busy)s::integer[]) AS b (id, count) ON b.id = d.id
     CROSS JOIN LATERAL (
        SELECT x.destination_id, x.partition, x.position FROM deliveries x
         WHERE x.destination_id = d.id AND x.state = 'pending'
           AND x.next_at <= clock_timestamp() AND x.leased_until <= clock_timestamp()
           AND NOT EXISTS (SELECT FROM deliveries e
                            WHERE e.destination_id = x.destination_id AND e.lane = x.lane AND e.state = 'pending'
                              AND (e.recorded_at, e.position) < (x.recorded_at, x.position))
         ORDER BY x.next_at, x.recorded_at, x.position
         LIMIT greatest(0, CASE WHEN d.failures >= %(probed)s THEN 1 ELSE %(each)s END - coalesce(b.count, 0))
           FOR UPDATE SKIP LOCKED
     ) c
     WHERE d.kind = %(kind)s AND d.id = coalesce(%(only)s, d.id)
       AND d.disabled_at IS NULL AND d.paused_until <= clock_timestamp()
     LIMIT %(limit)s
)
UPDATE deliveries x SET leased_until = clock_timestamp() + make_interval(secs => %(lease)s), fence = fence + 1
  FROM due
 WHERE x.destination_id = due.destination_id AND x.partition = due.partition AND x.position = due.position
RETURNING x.destination_id, x.partition, x.position, x.stream_id, x.version, x.tries, x.attempts, x.resends, x.fence
"""
LEASE: Final = b"""
UPDATE destinations d SET leased_until = clock_timestamp() + make_interval(secs => %(seconds)s), fence = fence + 1
 WHERE id = (SELECT id FROM destinations WHERE id = %(id)s AND disabled_at IS NULL
                AND paused_until <= clock_timestamp() AND leased_until <= clock_timestamp() FOR UPDATE SKIP LOCKED)
   AND EXISTS (SELECT FROM deliveries x WHERE x.destination_id = d.id AND x.state = 'pending'
                  AND x.next_at <= clock_timestamp())
RETURNING fence
"""
RENEW: Final = b"""
UPDATE destinations SET leased_until = clock_timestamp() + make_interval(secs => %s)
 WHERE id = %s AND fence = %s AND disabled_at IS NULL
"""
RENEW_DELIVERY: Final = b"""
UPDATE deliveries SET leased_until = clock_timestamp() + make_interval(secs => %s)
 WHERE destination_id = %s AND partition = %s AND position = %s AND fence = %s
"""
END_LEASE: Final = b"UPDATE destinations SET leased_until = '-infinity' WHERE id = %s AND fence = %s"
PAUSE: Final = b"""
UPDATE destinations SET paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => %s))
 WHERE id = %s
"""
RESUME: Final = b"""
UPDATE deliveries x SET state = 'pending', tries = 0, next_at = clock_timestamp()
  FROM (SELECT partition, position FROM deliveries WHERE destination_id = %(id)s AND state = 'held' LIMIT %(limit)s) p
 WHERE x.destination_id = %(id)s AND x.partition = p.partition AND x.position = p.position
"""
STILL_HELD: Final = b"""
SELECT FROM deliveries d JOIN message_keys k USING (partition, stream_id)
 WHERE d.destination_id = %s AND d.partition = %s AND d.position = %s AND d.fence = %s AND d.state = 'pending'
   AND d.leased_until > clock_timestamp()
"""
#: First, as whoever disables it does: the two would lock each other out.
LOCK_DESTINATION: Final = b"SELECT FROM destinations WHERE id = %s FOR NO KEY UPDATE"
SETTLE: Final = b"""
WITH settled AS (
    UPDATE deliveries SET state = CASE WHEN state = 'held' AND %(state)s = 'pending' THEN 'held' ELSE %(state)s END,
           why = %(why)s, leased_until = '-infinity', tries = tries + 1,
           attempts = attempts + 1, message_id = coalesce(%(message_id)s, message_id),
           message_version = coalesce(%(message_version)s, message_version), status = coalesce(%(status)s, status),
           next_at = clock_timestamp() + make_interval(secs => coalesce(%(retry)s::float8, 0)),
           settled_at = CASE WHEN %(state)s = 'pending' THEN NULL ELSE clock_timestamp() END
     WHERE destination_id = %(id)s AND partition = %(partition)s AND position = %(position)s AND fence = %(fence)s
       AND state IN ('pending', 'held')
    RETURNING lane, next_at
), logged AS (
    INSERT INTO delivery_attempts (destination_id, partition, position, number, milliseconds, answer, outcome, sealed)
    SELECT %(id)s, %(partition)s, %(position)s, %(number)s, %(milliseconds)s, %(answer)s, %(outcome)s, %(sealed)s::bytea
      FROM settled
)
SELECT lane, next_at FROM settled
"""
#: Those behind it in its lane wait as long as it does, so that nobody looks at them in vain.
FOLLOW: Final = b"""
UPDATE deliveries SET next_at = %(at)s WHERE destination_id = %(id)s AND lane = %(lane)s AND state = 'pending'
"""
SUCCEEDED: Final = b"""
UPDATE destinations d SET failures = 0, failing_since = NULL, last_succeeded_at = clock_timestamp(),
       paused_until = '-infinity'
  FROM (SELECT id, CASE WHEN failures >= %s THEN failing_since END AS since FROM destinations WHERE id = %s) before
 WHERE d.id = before.id
RETURNING before.since
"""
FAILED: Final = b"""
UPDATE destinations d SET failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()),
       last_failed_at = clock_timestamp(),
       paused_until = greatest(d.paused_until, clock_timestamp() + make_interval(secs => greatest(%(pause)s,
           CASE WHEN failures + 1 < %(probed)s THEN 0
                ELSE least(%(most)s, power(2, least(failures + 1 - %(probed)s, 10))) END)))
  FROM (SELECT id, last_failed_at FROM destinations WHERE id = %(id)s) before
 WHERE d.id = before.id
RETURNING d.failures,
          before.last_failed_at >= d.failing_since + make_interval(hours => 12)
          AND clock_timestamp() >= d.failing_since + make_interval(hours => %(hours)s)
"""
DISABLE: Final = b"""
UPDATE destinations SET disabled_at = clock_timestamp(), disabled_reason = %s WHERE id = %s AND disabled_at IS NULL
"""
#: What waits for destinations that are disabled, a page at a time: there may be a great deal.
HOLD: Final = b"""
UPDATE deliveries x SET state = 'held'
  FROM (SELECT y.destination_id, y.partition, y.position
          FROM destinations d JOIN deliveries y ON y.destination_id = d.id AND y.state = 'pending'
         WHERE d.disabled_at IS NOT NULL AND y.leased_until <= clock_timestamp()
         LIMIT %s FOR UPDATE OF y SKIP LOCKED) p
 WHERE x.destination_id = p.destination_id AND x.partition = p.partition AND x.position = p.position
"""
RELEASE: Final = b"""
UPDATE deliveries SET leased_until = '-infinity'
 WHERE destination_id = %s AND partition = %s AND position = %s AND fence = %s
"""
DROP: Final = b"""
DELETE FROM deliveries
 WHERE destination_id = %s AND partition = %s AND position = %s AND fence = %s AND attempts = 0
"""
DROP_ERASED: Final = b"""
DELETE FROM deliveries d
 WHERE d.destination_id = %s AND d.partition = %s AND d.position = %s
   AND NOT EXISTS (SELECT FROM message_keys k WHERE k.partition = d.partition AND k.stream_id = d.stream_id)
"""
AGAIN: Final = """
UPDATE deliveries d
   SET state = CASE WHEN n.disabled_at IS NULL THEN 'pending' ELSE 'held' END, why = NULL, settled_at = NULL, tries = 0,
       next_at = clock_timestamp(), leased_until = '-infinity', fence = d.fence + 1, resends = resends + {resends}
  FROM destinations n
 WHERE n.id = d.destination_id AND d.destination_id = {where}
"""
RESEND: Final = AGAIN.format(resends="%s", where="%s AND d.partition = %s AND d.position = %s").encode()
RECOVER: Final = AGAIN.format(
    resends="0",
    where="""%(id)s AND d.state = ANY(%(states)s)
   AND (d.partition, d.position) IN (
        SELECT partition, position FROM deliveries
         WHERE destination_id = %(id)s AND state = ANY(%(states)s)
           AND recorded_at >= %(since)s AND recorded_at < coalesce(%(until)s::timestamptz, 'infinity')
           AND coalesce(settled_at, '-infinity') < %(begun)s LIMIT %(limit)s)""",
).encode()
#: Changes of before the destination was made, or of statuses that it did not want then.
RECOVER_MISSED: Final = """
INSERT INTO deliveries (destination_id, partition, position, stream_id, lane, version, recorded_at, state, next_at)
SELECT d.id, s.partition, s.position, s.stream_id, coalesce(l.joins, s.stream_id), s.version, s.recorded_at,
       CASE WHEN d.disabled_at IS NULL THEN 'pending' ELSE 'held' END, clock_timestamp()
  FROM {status_changes} s
  JOIN destinations d ON d.id = %(id)s AND d.account = s.account AND coalesce(d.channel, s.channel) = s.channel
                     AND (s.merges IS NOT NULL OR s.status = ANY(coalesce(d.statuses, ARRAY[s.status])))
  JOIN outbound_positions o ON o.partition = s.partition AND s.position <= o.position
  JOIN message_keys k ON k.partition = s.partition AND k.stream_id = s.stream_id
  LEFT JOIN {status_changes} l ON l.stream_id = s.stream_id AND l.joins IS NOT NULL
 WHERE s.joins IS NULL AND s.recorded_at >= %(since)s
   AND s.recorded_at < coalesce(%(until)s::timestamptz, 'infinity')
   AND NOT EXISTS (SELECT FROM deliveries x
                    WHERE x.destination_id = d.id AND x.partition = s.partition AND x.position = s.position)
 LIMIT %(limit)s
ON CONFLICT DO NOTHING
"""
DELIVERY: Final = """
SELECT d.partition, d.position, d.stream_id, d.version, d.message_id, d.message_version, coalesce(d.status, s.status),
       d.state, d.why, d.attempts, d.resends, d.recorded_at,
       CASE WHEN d.state = 'pending' THEN d.next_at END, d.settled_at
  FROM deliveries d JOIN {status_changes} s ON s.partition = d.partition AND s.position = d.position
 WHERE d.destination_id = %(id)s
"""
NEWEST: Final = (
    DELIVERY
    + """
   AND d.state = ANY(coalesce(%(states)s::text[], ARRAY[d.state]))
   AND (d.recorded_at, d.position) < (coalesce(%(at)s::timestamptz, 'infinity'), coalesce(%(position)s::bigint, 0))
 ORDER BY d.recorded_at DESC, d.position DESC LIMIT %(limit)s
"""
)
GET: Final = DELIVERY + " AND d.partition = %(partition)s AND d.position = %(position)s"
ATTEMPTS: Final = b"""
SELECT number, attempted_at, milliseconds, outcome, answer, sealed FROM delivery_attempts
 WHERE destination_id = %s AND partition = %s AND position = %s ORDER BY number
"""
COUNTS: Final = b"SELECT state, count(*) FROM deliveries WHERE destination_id = %s GROUP BY state"
FORGET: Final = b"DELETE FROM deliveries WHERE stream_id = ANY(%s::uuid[]) OR lane = ANY(%s::uuid[])"
PURGE: Final = b"""
DELETE FROM deliveries x
 USING (SELECT destination_id, partition, position FROM deliveries
         WHERE state <> 'pending' AND coalesce(settled_at, recorded_at) < clock_timestamp() - make_interval(days => %s)
         LIMIT %s) p
 WHERE x.destination_id = p.destination_id AND x.partition = p.partition AND x.position = p.position
"""
CLEAR_DELETED: Final = b"""
DELETE FROM deliveries x
 USING (SELECT y.destination_id, y.partition, y.position
          FROM destinations d JOIN deliveries y ON y.destination_id = d.id WHERE d.kind = 'deleted' LIMIT %s) p
 WHERE x.destination_id = p.destination_id AND x.partition = p.partition AND x.position = p.position
"""
DELETE_CLEARED: Final = b"""
DELETE FROM destinations d
 WHERE d.kind = 'deleted' AND NOT EXISTS (SELECT FROM deliveries x WHERE x.destination_id = d.id)
"""
CLOCK: Final = b"SELECT clock_timestamp()"
