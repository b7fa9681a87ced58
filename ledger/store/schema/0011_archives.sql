-- Messages whose events have left the log are still found by their ids.

-- Rows of streams that another stream speaks for: whether a message may leave depends on all of its streams.
CREATE INDEX current_status_linked ON current_status (linked_to) WHERE linked_to IS NOT NULL;

-- ledger_find: as before, and by the place that the first event had where it is in an archive now.
CREATE OR REPLACE FUNCTION ledger_find(w_partition smallint[], w_position bigint[])
RETURNS TABLE (asked integer, stream_id uuid, version integer, message_id bigint, opened_at timestamptz, state bytea,
               wrapped bytea)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
    SELECT i, c.stream_id, c.version, c.message_id, c.opened_at, c.state,
           (SELECT k.wrapped FROM message_keys k WHERE k.partition = c.partition AND k.stream_id = c.stream_id)
      FROM generate_series(1, cardinality(w_position)) i
     CROSS JOIN LATERAL (
            SELECT e.partition, e.stream_id FROM events e
             WHERE e.partition = w_partition[i] AND e.position = w_position[i] AND e.version = 1
            UNION ALL
            SELECT a.partition, a.stream_id FROM archived_messages a
             WHERE a.partition = w_partition[i] AND a.position = w_position[i]
          ) AS first
      JOIN current_status c ON c.partition = first.partition AND c.stream_id = first.stream_id;
END
$$;
