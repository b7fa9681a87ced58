-- Appending and loading with less work: rows that open a message are inserted and others updated, the leaf digests of
-- the chain come from the client, arrays are read by subscript, and no plan depends on how large a table was when it
-- was made. `ledger_append` stays for workers of the version before; a later migration removes it.

-- A line that ends in "-- undivided" is left out where tables are divided natively (ledger/store/migrations.py).

-- Positions only grow, so the last page of their index is the only one that fills.
ALTER INDEX events_position SET (fillfactor = 100); -- undivided
-- A campaign's receipts come in the order of its messages: all rows of a page are updated by one append, and find room
-- in it for their new versions, so that no index has to be touched.
ALTER TABLE current_status SET (fillfactor = 60); -- undivided

-- ledger_load: what the next decisions need to know. A stream without events has no row.
CREATE FUNCTION ledger_load(w_partition smallint[], w_stream uuid[])
RETURNS TABLE (stream_id uuid, version integer, state bytea, wrapped bytea)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
    SELECT c.stream_id, c.version, c.state,
           (SELECT k.wrapped FROM message_keys k WHERE k.partition = c.partition AND k.stream_id = c.stream_id)
      FROM generate_series(1, cardinality(w_stream)) i
      JOIN current_status c ON c.partition = w_partition[i] AND c.stream_id = w_stream[i];
END
$$;

-- ledger_find: messages by where their streams begin, as public message ids name them; `asked` is the index of the place.
CREATE FUNCTION ledger_find(w_partition smallint[], w_position bigint[])
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
      JOIN events e ON e.partition = w_partition[i] AND e.position = w_position[i] AND e.version = 1
      JOIN current_status c ON c.partition = e.partition AND c.stream_id = e.stream_id;
END
$$;

-- ledger_record: the only way events are written. Locks the heads it needs in partition order, assigns positions,
-- chains hashes, inserts, and writes the rows that follow from the events, all in the caller's one statement, so that
-- no client round trip happens under a lock. Raises unique_violation when a stream has moved on (lost race).
--
-- e_*: events, grouped by ascending partition. e_digest is SHA-256 of the state.
-- s_*: one row a stream written to; s_last and s_first are the indexes of its last and, if this call opens it, first
--      event (0 otherwise). Account, provider, channel and the key count for streams that are opened. A look-up that is
--      null stays as it was; an empty one is taken away.
-- c_*: captures, null if there are none.
CREATE FUNCTION ledger_record(
    e_partition smallint[], e_stream uuid[], e_version integer[], e_type text[], e_state bytea[], e_digest bytea[],
    s_first integer[], s_last integer[], s_wrapped bytea[],
    s_last_updated timestamptz[], s_sent_at timestamptz[], s_delivered_at timestamptz[], s_read_at timestamptz[],
    s_failed_at timestamptz[], s_linked_to uuid[],
    s_account text[], s_provider text[], s_channel text[], s_status text[], s_conflict text[],
    s_failure_category text[], s_provider_lookup bytea[], s_recipient_lookup bytea[], s_reference_lookup bytea[],
    s_state bytea[],
    c_partition smallint[] DEFAULT NULL, c_capture_id uuid[] DEFAULT NULL, c_received_at timestamptz[] DEFAULT NULL,
    c_account text[] DEFAULT NULL, c_provider text[] DEFAULT NULL, c_reason text[] DEFAULT NULL,
    c_wrapped bytea[] DEFAULT NULL, c_sealed bytea[] DEFAULT NULL,
    OUT positions bigint[], OUT recorded_at timestamptz[]
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    n integer := cardinality(e_stream);
    i integer := 1;
    part smallint;
    at_position bigint;
    link bytea;
    at timestamptz;
    at_us bytea;
    hashes bytea[];
    opened integer := 0;
BEGIN
    WHILE i <= n LOOP
        part := e_partition[i];
        SELECT h.position, h.hash, greatest(clock_timestamp(), h.recorded_at + interval '1 microsecond')
          INTO STRICT at_position, link, at FROM partition_heads h WHERE h.partition = part FOR UPDATE;
        at_us := int8send((extract(epoch FROM at) * 1000000)::bigint);
        WHILE i <= n AND e_partition[i] = part LOOP
            at_position := at_position + 1;
            link := sha256('\x00'::bytea || link || uuid_send(e_stream[i]) || int8send(e_version[i])
                           || int8send(at_position) || convert_to(e_type[i], 'UTF8') || at_us || e_digest[i]);
            positions[i] := at_position;
            recorded_at[i] := at;
            hashes[i] := link;
            i := i + 1;
        END LOOP;
        UPDATE partition_heads h SET position = at_position, recorded_at = at, hash = link WHERE h.partition = part;
    END LOOP;

    INSERT INTO events (partition, position, stream_id, version, type, state, recorded_at, hash)
    SELECT e_partition[e], positions[e], e_stream[e], e_version[e], e_type[e], e_state[e], recorded_at[e], hashes[e]
      FROM generate_series(1, n) e;

    INSERT INTO current_status (
        partition, stream_id, version, message_id, opened_at, last_updated, sent_at, delivered_at, read_at, failed_at,
        linked_to, account, provider, channel, status, conflict, failure_category,
        provider_lookup, recipient_lookup, reference_lookup, state)
    SELECT e_partition[s_last[s]], e_stream[s_last[s]], e_version[s_last[s]],
           positions[s_first[s]] * 256 + get_byte(uuid_send(e_stream[s_last[s]]), 0), recorded_at[s_first[s]],
           s_last_updated[s], s_sent_at[s], s_delivered_at[s], s_read_at[s], s_failed_at[s], s_linked_to[s],
           s_account[s], s_provider[s], s_channel[s], s_status[s], s_conflict[s], s_failure_category[s],
           nullif(s_provider_lookup[s], ''), nullif(s_recipient_lookup[s], ''), nullif(s_reference_lookup[s], ''),
           s_state[s]
      FROM generate_series(1, cardinality(s_last)) s WHERE s_first[s] > 0;
    GET DIAGNOSTICS opened = ROW_COUNT;
    IF opened > 0 THEN
        INSERT INTO message_keys (partition, stream_id, wrapped)
        SELECT e_partition[s_last[s]], e_stream[s_last[s]], s_wrapped[s]
          FROM generate_series(1, cardinality(s_last)) s WHERE s_wrapped[s] IS NOT NULL;
    END IF;
    IF opened < cardinality(s_last) THEN
        UPDATE current_status c
           SET version = e_version[s_last[s]], last_updated = s_last_updated[s], sent_at = s_sent_at[s],
               delivered_at = s_delivered_at[s], read_at = s_read_at[s], failed_at = s_failed_at[s],
               linked_to = s_linked_to[s], status = s_status[s], conflict = s_conflict[s],
               failure_category = s_failure_category[s],
               provider_lookup = nullif(coalesce(s_provider_lookup[s], c.provider_lookup), ''),
               recipient_lookup = nullif(coalesce(s_recipient_lookup[s], c.recipient_lookup), ''),
               reference_lookup = nullif(coalesce(s_reference_lookup[s], c.reference_lookup), ''), state = s_state[s]
          FROM generate_series(1, cardinality(s_last)) s
         WHERE s_first[s] = 0 AND c.partition = e_partition[s_last[s]] AND c.stream_id = e_stream[s_last[s]]
           AND c.version < e_version[s_last[s]];
    END IF;

    IF c_capture_id IS NOT NULL THEN
        -- Once each, however often the batch holds it, and in one order for all writers: they would lock each other out.
        INSERT INTO captures AS c (partition, capture_id, first_received_at, last_received_at, times_received, account,
                                   provider, reason, wrapped, sealed)
        SELECT DISTINCT ON (partition, capture_id)
               partition, capture_id, min(received_at) OVER same, max(received_at) OVER same, count(*) OVER same,
               account, provider, reason, wrapped, sealed
          FROM unnest(c_partition, c_capture_id, c_received_at, c_account, c_provider, c_reason, c_wrapped, c_sealed)
               AS new (partition, capture_id, received_at, account, provider, reason, wrapped, sealed)
        WINDOW same AS (PARTITION BY partition, capture_id)
         ORDER BY partition, capture_id
        ON CONFLICT (partition, capture_id) DO UPDATE SET
            last_received_at = greatest(c.last_received_at, excluded.last_received_at),
            times_received = c.times_received + excluded.times_received;
    END IF;
END
$$;
