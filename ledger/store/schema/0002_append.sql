-- The only way events are written.

-- chain_hash: the hash of one event, chained to its predecessor's.
-- SHA-256(0x00 | previous 32 | stream id 16 | version 8 | position 8 | type | recorded_at in µs since 1970 8 | SHA-256(state) 32),
-- integers big-endian. One field has no fixed length (type), so no two events share an encoding.
CREATE FUNCTION chain_hash(previous bytea, stream_id uuid, version bigint, at_position bigint, type text,
                           recorded_us bytea, state bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256('\x00'::bytea || previous || uuid_send(stream_id) || int8send(version) || int8send(at_position)
              || convert_to(type, 'UTF8') || recorded_us || sha256(state));

-- ledger_append: locks the heads it needs in partition order, assigns positions, chains hashes, inserts, upserts
-- current_status, all in the caller's one statement, so that no client round trip happens under a lock.
-- Events must come grouped by ascending partition. Raises unique_violation when a stream has moved on (lost race).
CREATE FUNCTION ledger_append(
    e_partition smallint[], e_stream uuid[], e_version integer[], e_type text[], e_state bytea[],
    k_partition smallint[], k_stream uuid[], k_wrapped bytea[],
    s_partition smallint[], s_stream uuid[], s_version integer[],
    s_opening integer[],                     -- 1-based index of the stream's first event in this call; 0: already open
    s_last_updated timestamptz[], s_sent_at timestamptz[], s_delivered_at timestamptz[], s_read_at timestamptz[],
    s_failed_at timestamptz[], s_linked_to uuid[],
    s_account text[], s_provider text[], s_channel text[], s_status text[], s_conflict text[],
    s_failure_category text[], s_provider_lookup bytea[], s_recipient_lookup bytea[], s_reference_lookup bytea[],
    s_state bytea[],
    c_partition smallint[], c_capture_id uuid[], c_received_at timestamptz[], c_account text[], c_provider text[],
    c_reason text[], c_wrapped bytea[], c_sealed bytea[],
    OUT positions bigint[], OUT recorded_at timestamptz[]
)
LANGUAGE plpgsql AS $$
DECLARE
    n integer := cardinality(e_stream);
    i integer := 1;
    head partition_heads;
    recorded_us bytea;
    at timestamptz;
    hashes bytea[] := array_fill(NULL::bytea, ARRAY[n]);
BEGIN
    positions := array_fill(NULL::bigint, ARRAY[n]);
    recorded_at := array_fill(NULL::timestamptz, ARRAY[n]);
    WHILE i <= n LOOP
        SELECT * INTO STRICT head FROM partition_heads h WHERE h.partition = e_partition[i] FOR UPDATE;
        -- After the lock, and after the last append whatever the clock says: linked streams are merged by these times.
        at := greatest(clock_timestamp(), head.recorded_at + interval '1 microsecond');
        recorded_us := int8send((extract(epoch FROM at) * 1000000)::bigint);
        WHILE i <= n AND e_partition[i] = head.partition LOOP
            head.position := head.position + 1;
            head.hash := chain_hash(head.hash, e_stream[i], e_version[i], head.position, e_type[i],
                                    recorded_us, e_state[i]);
            positions[i] := head.position;
            recorded_at[i] := at;
            hashes[i] := head.hash;
            i := i + 1;
        END LOOP;
        UPDATE partition_heads h SET position = head.position, recorded_at = at, hash = head.hash
         WHERE h.partition = head.partition;
    END LOOP;

    INSERT INTO events (partition, position, stream_id, version, type, state, recorded_at, hash)
    SELECT * FROM unnest(e_partition, positions, e_stream, e_version, e_type, e_state, recorded_at, hashes);

    INSERT INTO message_keys (partition, stream_id, wrapped)
    SELECT * FROM unnest(k_partition, k_stream, k_wrapped);

    INSERT INTO current_status AS c (
        partition, stream_id, version, message_id, opened_at, last_updated, sent_at, delivered_at, read_at, failed_at,
        linked_to, account, provider, channel, status, conflict, failure_category,
        provider_lookup, recipient_lookup, reference_lookup, state)
    SELECT s.partition, s.stream_id, s.version,
           CASE WHEN s.opening > 0 THEN positions[s.opening] * 256 + get_byte(uuid_send(s.stream_id), 0) ELSE 0 END,
           CASE WHEN s.opening > 0 THEN recorded_at[s.opening] ELSE '-infinity' END,
           s.last_updated, s.sent_at, s.delivered_at, s.read_at, s.failed_at, s.linked_to, s.account, s.provider,
           s.channel, s.status, s.conflict, s.failure_category,
           s.provider_lookup, s.recipient_lookup, s.reference_lookup, s.state
      FROM unnest(s_partition, s_stream, s_version, s_opening, s_last_updated, s_sent_at, s_delivered_at, s_read_at,
                  s_failed_at, s_linked_to, s_account, s_provider, s_channel, s_status, s_conflict, s_failure_category,
                  s_provider_lookup, s_recipient_lookup, s_reference_lookup, s_state)
           AS s (partition, stream_id, version, opening, last_updated, sent_at, delivered_at, read_at,
                 failed_at, linked_to, account, provider, channel, status, conflict, failure_category,
                 provider_lookup, recipient_lookup, reference_lookup, state)
    ON CONFLICT (partition, stream_id) DO UPDATE SET
        version = excluded.version, last_updated = excluded.last_updated, sent_at = excluded.sent_at,
        delivered_at = excluded.delivered_at, read_at = excluded.read_at, failed_at = excluded.failed_at,
        linked_to = excluded.linked_to, status = excluded.status, conflict = excluded.conflict,
        failure_category = excluded.failure_category, provider_lookup = excluded.provider_lookup,
        recipient_lookup = excluded.recipient_lookup, reference_lookup = excluded.reference_lookup,
        state = excluded.state
     WHERE c.version < excluded.version;

    -- Once each, however often the batch holds it, and in one order for all writers: they would lock each other out.
    INSERT INTO captures AS c (partition, capture_id, first_received_at, last_received_at, times_received, account,
                               provider, reason, wrapped, sealed)
    SELECT DISTINCT ON (partition, capture_id)
           partition, capture_id, min(received_at) OVER same, max(received_at) OVER same, count(*) OVER same, account,
           provider, reason, wrapped, sealed
      FROM unnest(c_partition, c_capture_id, c_received_at, c_account, c_provider, c_reason, c_wrapped, c_sealed)
           AS new (partition, capture_id, received_at, account, provider, reason, wrapped, sealed)
    WINDOW same AS (PARTITION BY partition, capture_id)
     ORDER BY partition, capture_id
    ON CONFLICT (partition, capture_id) DO UPDATE SET
        last_received_at = greatest(c.last_received_at, excluded.last_received_at),
        times_received = c.times_received + excluded.times_received;
END
$$;
