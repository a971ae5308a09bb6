-- The functions of the hot path. Each is called as one statement that is a transaction by itself: a client that stops
-- in the middle of anything holds no lock, and one round trip makes a whole group of appends durable.
--
-- Error codes of ours: CG001 a head has moved, CG002 an inbox item is not there, CG003 an owner has no key.

CREATE FUNCTION cattlegrid.now_us() RETURNS bigint
LANGUAGE sql VOLATILE AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Leases. `now_us` is the time by which they end; the server's own when NULL. `wait_us` says for how long somebody
-- else still holds it; then nothing was changed.
CREATE FUNCTION cattlegrid.acquire(
  wanted text, genesis bytea, new_holder text, lease_us bigint, at_us bigint,
  OUT id bigint, OUT epoch bigint, OUT seq bigint, OUT hash bytea, OUT lease_until_us bigint, OUT wait_us bigint
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  now_us bigint := coalesce(at_us, cattlegrid.now_us());
BEGIN
  INSERT INTO cattlegrid.heads AS h (stream, epoch, hash, holder, lease_until_us)
  VALUES (wanted, 1, genesis, new_holder, now_us + lease_us)
  ON CONFLICT (stream) DO UPDATE
    SET epoch = h.epoch + 1, holder = excluded.holder, lease_until_us = excluded.lease_until_us
    WHERE h.lease_until_us IS NULL OR h.lease_until_us <= now_us
  RETURNING h.id, h.epoch, h.seq, h.hash, h.lease_until_us
  INTO acquire.id, acquire.epoch, acquire.seq, acquire.hash, acquire.lease_until_us;
  IF NOT FOUND THEN
    SELECT h.lease_until_us - now_us INTO acquire.wait_us FROM cattlegrid.heads AS h WHERE h.stream = wanted;
    acquire.wait_us := greatest(0, coalesce(acquire.wait_us, 0));
  END IF;
END $$;

-- Appends of many streams: all of them or none. Arrays of one kind of row have the same length. Claims make streams,
-- whose numbers the caller has drawn from the sequence before. An owner's row is locked against erasure before heads
-- are: everything that takes both takes them in this order.
CREATE FUNCTION cattlegrid.append(
  at_us bigint,
  claim_id bigint[], claim_stream text[], claim_holder text[], claim_lease bigint[],
  claim_seq bigint[], claim_hash bytea[],
  move_id bigint[], move_epoch bigint[], move_seq bigint[], move_hash bytea[],
  move_to_seq bigint[], move_to_hash bytea[],
  event_stream bigint[], event_seq bigint[], event_run text[], event_type text[], event_at bigint[],
  event_data bytea[], event_prev bytea[], event_hash bytea[],
  keyed_owner text[], bundle_owner text[],
  body_owner text[], body_digest text[], body_sealed bytea[], body_stream bigint[], body_shared bigint[],
  entry_create bigint[], entry_kind text[], entry_id text[], entry_stream text[], entry_tenant text[],
  entry_owner text[], entry_agent text[], entry_status text[], entry_ref text[], entry_digest text[],
  entry_due bigint[], entry_created bigint[], entry_updated bigint[],
  inbox_item text[], inbox_stream text[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  done bigint;
BEGIN
  IF cardinality(bundle_owner) > 0 THEN
    INSERT INTO cattlegrid.owners (owner) SELECT unnest(bundle_owner) ON CONFLICT (owner) DO NOTHING;
  END IF;
  IF cardinality(keyed_owner) > 0 THEN
    SELECT count(*) INTO done FROM (
      SELECT 1 FROM cattlegrid.owners WHERE owner = ANY (keyed_owner) AND wrapped IS NOT NULL FOR KEY SHARE
    ) AS keyed;
    IF done <> cardinality(keyed_owner) THEN
      RAISE EXCEPTION USING ERRCODE = 'CG003', MESSAGE = 'an owner has no key';
    END IF;
  END IF;
  IF cardinality(claim_id) > 0 THEN
    INSERT INTO cattlegrid.heads (id, stream, epoch, seq, hash, holder, lease_until_us)
    SELECT c.id, c.stream, 1, c.seq, c.hash, c.holder, coalesce(at_us, cattlegrid.now_us()) + c.lease
    FROM unnest(claim_id, claim_stream, claim_holder, claim_lease, claim_seq, claim_hash)
      AS c (id, stream, holder, lease, seq, hash);
  END IF;
  UPDATE cattlegrid.heads AS h SET seq = m.to_seq, hash = m.to_hash
  FROM unnest(move_id, move_epoch, move_seq, move_hash, move_to_seq, move_to_hash)
    AS m (id, epoch, seq, hash, to_seq, to_hash)
  WHERE h.id = m.id AND h.epoch = m.epoch AND h.seq = m.seq AND h.hash = m.hash;
  GET DIAGNOSTICS done = ROW_COUNT;
  IF done <> cardinality(move_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'CG001', MESSAGE = 'a head has moved';
  END IF;
  IF cardinality(event_stream) > 0 THEN
    -- What the feed must know of a transaction that has not ended; see `horizon`.
    PERFORM pg_advisory_xact_lock_shared(cattlegrid.writing_since(last_value, is_called))
    FROM cattlegrid.events_position_seq;
    INSERT INTO cattlegrid.events (stream_id, seq, run_id, type, at_us, data, prev_hash, hash)
    SELECT * FROM unnest(
      event_stream, event_seq, event_run, event_type, event_at, event_data, event_prev, event_hash
    );
  END IF;
  IF cardinality(body_owner) > 0 THEN
    INSERT INTO cattlegrid.bodies AS b (owner_id, digest, sealed, stream_id, shared)
    SELECT o.id, n.digest, n.sealed, n.stream_id, n.shared
    FROM unnest(body_owner, body_digest, body_sealed, body_stream, body_shared)
      AS n (owner, digest, sealed, stream_id, shared)
    JOIN cattlegrid.owners AS o ON o.owner = n.owner
    ON CONFLICT (owner_id, digest) DO UPDATE SET shared = 1
      WHERE b.shared = 0 AND (excluded.shared = 1 OR b.stream_id <> excluded.stream_id);
  END IF;
  IF cardinality(entry_create) > 0 THEN
    INSERT INTO cattlegrid.entries
    SELECT n.kind, n.id, n.stream, n.tenant, n.owner, n.agent, n.status, n.ref, n.digest, n.due, n.created, n.updated
    FROM unnest(
      entry_create, entry_kind, entry_id, entry_stream, entry_tenant, entry_owner, entry_agent, entry_status,
      entry_ref, entry_digest, entry_due, entry_created, entry_updated
    ) AS n (make, kind, id, stream, tenant, owner, agent, status, ref, digest, due, created, updated)
    WHERE n.make = 1;
    INSERT INTO cattlegrid.entries AS e
    SELECT n.kind, n.id, n.stream, n.tenant, n.owner, n.agent, n.status, n.ref, n.digest, n.due, n.created, n.updated
    FROM unnest(
      entry_create, entry_kind, entry_id, entry_stream, entry_tenant, entry_owner, entry_agent, entry_status,
      entry_ref, entry_digest, entry_due, entry_created, entry_updated
    ) AS n (make, kind, id, stream, tenant, owner, agent, status, ref, digest, due, created, updated)
    WHERE n.make = 0
    ON CONFLICT (kind, id) DO UPDATE SET
      status = CASE excluded.status WHEN '' THEN e.status ELSE excluded.status END,
      ref = CASE excluded.ref WHEN '' THEN e.ref ELSE excluded.ref END,
      due_us = CASE excluded.due_us WHEN 0 THEN e.due_us ELSE excluded.due_us END,
      updated_us = CASE excluded.updated_us WHEN 0 THEN e.updated_us ELSE excluded.updated_us END;
  END IF;
  IF cardinality(inbox_item) > 0 THEN
    UPDATE cattlegrid.inbox AS i SET data = NULL
    FROM unnest(inbox_item, inbox_stream) AS n (id, stream)
    WHERE i.id = n.id AND i.stream = n.stream AND i.data IS NOT NULL;
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done <> cardinality(inbox_item) THEN
      RAISE EXCEPTION USING ERRCODE = 'CG002', MESSAGE = 'an inbox item is not there';
    END IF;
  END IF;
END $$;

-- Bodies that no event refers to yet.
CREATE FUNCTION cattlegrid.put_bodies(
  keyed_owner text[], bundle_owner text[], body_owner text[], body_digest text[], body_sealed bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  done bigint;
BEGIN
  INSERT INTO cattlegrid.owners (owner) SELECT unnest(bundle_owner) ON CONFLICT (owner) DO NOTHING;
  SELECT count(*) INTO done FROM (
    SELECT 1 FROM cattlegrid.owners WHERE owner = ANY (keyed_owner) AND wrapped IS NOT NULL FOR KEY SHARE
  ) AS keyed;
  IF done <> cardinality(keyed_owner) THEN
    RAISE EXCEPTION USING ERRCODE = 'CG003', MESSAGE = 'an owner has no key';
  END IF;
  INSERT INTO cattlegrid.bodies AS b (owner_id, digest, sealed)
  SELECT o.id, n.digest, n.sealed
  FROM unnest(body_owner, body_digest, body_sealed) AS n (owner, digest, sealed)
  JOIN cattlegrid.owners AS o ON o.owner = n.owner
  ON CONFLICT (owner_id, digest) DO UPDATE SET shared = 1 WHERE b.shared = 0;
END $$;

-- The feed. Positions are given out when events are inserted, and transactions end in any order: an event with a low
-- position may appear after one with a high position was read. So each writer holds, until its transaction ends, a
-- shared advisory lock whose key is a number below every position that it will get; the feed ends at the lowest of
-- them. The order is what makes it right: a writer locks and then takes positions; a reader takes the last position,
-- then looks at the locks, then reads with a later snapshot. The key's upper 16 bits (0xCA77) tell it from those
-- of other programs.
CREATE FUNCTION cattlegrid.writing_since(last_value bigint, is_called boolean) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT (-13705::bigint << 48) | CASE WHEN is_called THEN last_value ELSE 0 END
$$;

CREATE FUNCTION cattlegrid.horizon() RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  last bigint;
  lowest bigint;
BEGIN
  SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO last FROM cattlegrid.events_position_seq;
  SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) INTO lowest
  FROM pg_locks
  WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 51831
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
  RETURN least(last, coalesce(lowest, last));
END $$;

CREATE FUNCTION cattlegrid.feed(after bigint, most bigint)
RETURNS TABLE (
  "position" bigint, stream text, seq bigint, run_id text, type text, at_us bigint,
  data bytea, prev_hash bytea, hash bytea
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  up_to bigint := cattlegrid.horizon();
BEGIN
  RETURN QUERY
    SELECT e.position, h.stream, e.seq, e.run_id, e.type, e.at_us, e.data, e.prev_hash, e.hash
    FROM (
      SELECT * FROM cattlegrid.events WHERE events.position > after AND events.position <= up_to
      ORDER BY events.position LIMIT most
    ) AS e
    JOIN cattlegrid.heads AS h ON h.id = e.stream_id
    ORDER BY e.position;
END $$;

-- The heads as they were at the horizon: one whose stream has gone on since then is told as of its last event below.
CREATE FUNCTION cattlegrid.heads_changed_since(since bigint)
RETURNS TABLE (
  up_to bigint, stream text, epoch bigint, seq bigint, hash bytea, holder text, lease_until_us bigint
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  horizon bigint := cattlegrid.horizon();
BEGIN
  RETURN QUERY
    WITH changed AS (
      SELECT e.stream_id, max(e.position) AS top, max(e.position) FILTER (WHERE e.position <= horizon) AS last
      FROM cattlegrid.events AS e WHERE e.position > since GROUP BY e.stream_id
    )
    SELECT horizon, h.stream, h.epoch,
      CASE WHEN c.top <= horizon THEN h.seq ELSE l.seq END, CASE WHEN c.top <= horizon THEN h.hash ELSE l.hash END,
      h.holder, h.lease_until_us
    FROM changed AS c
    JOIN cattlegrid.heads AS h ON h.id = c.stream_id
    JOIN cattlegrid.events AS l ON l.position = c.last
    ORDER BY h.stream;
  IF NOT FOUND THEN
    RETURN QUERY SELECT horizon, ''::text, 0::bigint, 0::bigint, ''::bytea, ''::text, NULL::bigint;
  END IF;
END $$;
