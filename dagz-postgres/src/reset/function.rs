//! The function `dagz_baseline.reset`: looks, and undoes what a small test did, in one call.
//!
//! One call and not some statements, since each of these would be a round trip or would wait for
//! the answer of the one before. The order inside is what makes it exact: first the lock, then who
//! else is here, then the log. Each statement of the function sees what was committed when *it*
//! began, so a transaction that is not open any more when sessions are listed is in the log.
//!
//! Where there is nothing to undo, and nothing to tell, it answers NULL: making a row of it would take a
//! tenth of the time. Else it answers what `reset/answer.rs` reads.
//!
//! It deletes nothing before it compared the database's stamp with the expected one.

use super::{
    baseline::{EVENT_TRIGGER_STATE, OBJECT_CONTENTS, SETTINGS_STATE},
    lock,
    log::WriteLog,
    repair::REFERENCES,
    sessions,
};

/// Who else is in the database `this`, and since when they do or did what they did last: `pids`, `is_open` for a
/// transaction of theirs, `since`, and `sessions`, how many there ever were, which tells of those that came and went;
/// it is not up to date before Postgres 15. As soon as one of them does anything, comes or goes, one of these differs.
///
/// The numbers are asked for in a `SELECT` list: in `FROM` they would be stored first, which takes three times as long.
pub(super) const PRESENT: &str = "
SELECT coalesce(array_agg(p.pid), '{}') AS pids, coalesce(bool_or(p.is_open), false) AS is_open,
       coalesce(array_agg(p.since), '{}') AS since, pg_stat_get_db_sessions(this) AS sessions
FROM (SELECT pg_stat_get_backend_pid(b) AS pid, pg_stat_get_backend_xact_start(b) IS NOT NULL AS is_open,
             pg_stat_get_backend_activity_start(b) AS since
      FROM (SELECT pg_stat_get_backend_idset() AS b OFFSET 0) b WHERE pg_stat_get_backend_dbid(b) = this OFFSET 0) p
WHERE p.pid <> pg_backend_pid()";

/// From this size on, giving a table new files is faster than deleting its rows.
pub(super) const LARGE: i64 = 1 << 20;

/// From this size on, the log itself gets a new file.
pub(super) const LARGE_LOG: i64 = 64 << 10;

/// How many tables are dealt with by one statement; a statement has 1,664 columns at most.
const AT_ONCE: usize = 500;

/// What the statement that creates it depends on.
pub(super) struct Traits {
    /// Whether writes to some tables are not in the log.
    pub(super) has_unnoted: bool,
    /// Whether there are large objects at the start.
    pub(super) has_objects: bool,
    pub(super) reads_sequences: bool,
}

/// The statement that creates it.
///
/// Where it cannot be told that no sequence moved, all are set back that may have: no function of
/// Postgres before 18 tells of a `setval(…, false)`, and setting one costs less than a query that reads it.
pub(super) fn text(log: &WriteLog, traits: &Traits) -> String {
    let Traits {
        has_unnoted,
        has_objects,
        reads_sequences,
    } = *traits;
    let (class, object) = lock::KEY;
    let leftover = log
        .unless_blind("sessions", &sessions::is_leftover("a", "tag"), "false")
        .to_owned();
    let prepared = log.unless_blind(
        "prepared",
        "EXISTS (SELECT FROM pg_prepared_xact() p WHERE p.dbid = this)",
        "false",
    );
    let noted = log.unless_blind("drift", "EXISTS (SELECT FROM dagz_baseline.drift)", "false");
    let event_triggers = log.unless_blind(
        "event_triggers",
        "(SELECT count(*) <> s.event_trigger_count OR coalesce(bool_or(age(e.xmin) < s.age), false) FROM pg_event_trigger e)",
        "false",
    );
    let settings_state = format!("s.settings <> {SETTINGS_STATE}");
    let settings = log.unless_blind(
        "settings",
        &format!(
            "CASE WHEN s.settings = '' THEN EXISTS (SELECT FROM pg_db_role_setting r WHERE r.setdatabase = this) \
             ELSE {settings_state} END"
        ),
        "false",
    )
    .to_owned();
    let objects = if has_objects {
        let contents = format!(" OR s.object_contents <> {OBJECT_CONTENTS}");
        let contents = log.unless_blind("contents", &contents, "");
        format!(
            "(SELECT count(*) <> s.large_objects OR coalesce(bool_or(age(o.xmin) < s.age), false) FROM pg_largeobject_metadata o){contents}"
        )
    } else {
        "EXISTS (SELECT FROM pg_largeobject_metadata)".to_owned()
    };
    let objects = log.unless_blind("objects", &objects, "false");
    let goal = log.unless_blind("goal", "s.reset_to <> goal", "false");
    let unnoted = if has_unnoted {
        "unnoted := dagz_baseline.unnoted(is_baseline);"
    } else {
        ""
    };
    let stale = log.unless_blind(
        "stale",
        "(seen_pids, seen_since, seen_sessions) IS DISTINCT FROM (p.pids, p.since, p.sessions)",
        "false",
    );
    let moved = if reads_sequences {
        "coalesce((q.now).last_value <> q.goal_value OR (q.now).is_called <> q.goal_called, true)"
    } else {
        "NOT q.goal_called OR pg_sequence_last_value(q.oid) IS DISTINCT FROM q.goal_value"
    };
    let now = if reads_sequences {
        "pg_get_sequence_data(q.oid)"
    } else {
        "NULL"
    };
    let set_back = log
        .unless_blind(
            "sequences",
            &format!(
                "PERFORM setval(q.oid, q.goal_value, q.goal_called)
        FROM (SELECT q.oid, CASE WHEN is_baseline THEN q.last_value ELSE q.start END AS goal_value,
                     is_baseline AND q.is_called AS goal_called, {now} AS now
              FROM dagz_baseline.sequences q WHERE q.owner IS NULL OR q.owner <> ALL (kept) OFFSET 0) q
        WHERE {moved};"
            ),
            "NULL;",
        )
        .to_owned();
    format!(
        "CREATE FUNCTION dagz_baseline.reset(
    this oid, expected text, tag text, is_locked boolean, has_prepared boolean, goal text, kept oid[],
    moved oid[], seen_pids integer[], seen_since timestamptz[], seen_sessions bigint, spared integer[], is_forced boolean
) RETURNS text[] LANGUAGE plpgsql AS $dagz$
DECLARE
    is_baseline boolean := goal = 'baseline';
    pids integer[]; is_open boolean; is_stale boolean; is_left boolean := false; sessions integer[];
    stamp text; has_drifted boolean; is_elsewhere boolean; large_objects bigint; has_objects boolean; is_written boolean;
    unnoted oid[] := '{{}}'; cleared oid[];
    calls text[]; large oid[]; is_seeded boolean; detail text;
BEGIN
    IF NOT is_locked AND NOT pg_try_advisory_lock({class}, {object}) THEN
        RETURN ARRAY['locked'];
    END IF;
    SELECT p.pids, p.is_open, {stale} INTO pids, is_open, is_stale FROM ({PRESENT}) p;
    IF has_prepared THEN
        is_left := {prepared};
    END IF;
    SELECT d.description, {noted} OR {event_triggers} OR {settings}, {goal}, s.large_objects, {objects},
           EXISTS (SELECT FROM dagz_baseline.writes)
    INTO stamp, has_drifted, is_elsewhere, large_objects, has_objects, is_written
    FROM (SELECT *, age(mark::xid) AS age FROM dagz_baseline.state OFFSET 0) s
    LEFT JOIN pg_shdescription d ON d.objoid = this AND d.classoid = 1262;
    {unnoted}
    IF NOT (is_open OR is_left OR is_stale OR has_drifted OR is_elsewhere OR has_objects OR is_written)
       AND stamp = expected AND pids <@ spared AND moved = '{{}}' AND unnoted = '{{}}' THEN
        RETURN NULL;
    END IF;

    IF NOT is_left AND (is_open OR NOT pids <@ spared) THEN
        SELECT coalesce(bool_or({leftover}), false),
               array_agg(a.pid) FILTER (WHERE NOT starts_with(a.application_name || ' ', tag || ' ') AND a.application_name NOT LIKE 'dagz % kept')
        INTO is_left, sessions FROM pg_stat_get_activity(NULL) a WHERE a.datid = this;
    END IF;
    IF has_drifted IS NULL THEN
        RETURN ARRAY['gone'];
    ELSIF stamp IS DISTINCT FROM expected THEN
        RETURN ARRAY['stamp', NULL, stamp];
    ELSIF is_left THEN
        RETURN ARRAY['leftovers', NULL, stamp, NULL, sessions::text];
    ELSIF has_drifted THEN
        SELECT 'schema changed: ' || coalesce(
            (SELECT concat_ws(' ', n.command, n.object) FROM dagz_baseline.drift n LIMIT 1),
            CASE WHEN s.event_triggers <> {EVENT_TRIGGER_STATE} THEN 'the event triggers differ' END,
            CASE WHEN {settings_state} THEN 'ALTER DATABASE … SET' END, 'the event triggers were changed')
        INTO detail FROM dagz_baseline.state s;
        RETURN ARRAY['rebuild', detail, stamp];
    ELSIF is_elsewhere THEN
        RETURN ARRAY['unknown', NULL, stamp, NULL, sessions::text];
    END IF;
    IF has_objects THEN
        IF large_objects > 0 THEN
            RETURN ARRAY['rebuild', 'large objects were changed', stamp];
        END IF;
        PERFORM lo_unlink(o.oid) FROM pg_largeobject_metadata o;
    END IF;
    IF is_stale THEN
        {set_back}
    END IF;
    IF NOT is_written AND moved = '{{}}' AND unnoted = '{{}}' THEN
        RETURN ARRAY['clean', NULL, stamp, NULL, sessions::text];
    END IF;

    -- What is taken out of the log here is what is dealt with: an entry that comes later stays.
    IF pg_relation_size('dagz_baseline.writes') > {LARGE_LOG} THEN
        LOCK TABLE dagz_baseline.writes IN ACCESS EXCLUSIVE MODE;
        SELECT array_agg(DISTINCT w.relation) INTO unnoted FROM (SELECT relation FROM dagz_baseline.writes UNION ALL SELECT unnest(unnoted)) w;
        TRUNCATE dagz_baseline.writes;
    END IF;
    WITH taken AS (DELETE FROM dagz_baseline.writes w RETURNING w.relation),
         written AS (SELECT relation FROM taken UNION SELECT unnest(unnoted))
    SELECT array_agg(t.tbl),
           array_agg('dagz_baseline.' || CASE WHEN t.is_seeded THEN 'restore_' ELSE 'clear_' END || t.tbl || '()'),
           array_agg(t.tbl) FILTER (WHERE NOT t.is_seeded AND pg_relation_size(t.tbl) >= {LARGE}),
           coalesce(bool_or(t.is_seeded), false)
    INTO cleared, calls, large, is_seeded
    FROM (SELECT DISTINCT c.tbl, is_baseline AND c.is_seeded AS is_seeded
          FROM written w JOIN dagz_baseline.covers c USING (relation) WHERE c.tbl <> ALL (kept)) t;
    IF large IS NOT NULL AND NOT is_forced THEN
        -- Each table covers itself.
        INSERT INTO dagz_baseline.writes SELECT unnest(cleared);
        {REFERENCES} INTO detail;
        RETURN ARRAY['large', detail, stamp, large::text, sessions::text];
    END IF;
    FOR place IN 1..coalesce(cardinality(calls), 0) BY {AT_ONCE} LOOP
        EXECUTE 'SELECT ' || array_to_string(calls[place:place + {AT_ONCE} - 1], ', ');
    END LOOP;
    PERFORM setval(q.oid, CASE WHEN is_baseline THEN q.last_value ELSE q.start END, is_baseline AND q.is_called)
    FROM dagz_baseline.sequences q WHERE q.owner = ANY (cleared) OR q.oid = ANY (moved);
    IF is_seeded THEN
        -- After the mark no row is newer; so it may not pass a transaction that is older than this
        -- one and that writes, or wrote since the log was read.
        PERFORM pg_stat_clear_snapshot();
        IF NOT EXISTS (SELECT FROM pg_stat_get_backend_idset() b
                       WHERE pg_stat_get_backend_dbid(b) = this AND pg_stat_get_backend_pid(b) <> pg_backend_pid()
                         AND pg_stat_get_backend_xact_start(b) IS NOT NULL)
           AND NOT EXISTS (SELECT FROM dagz_baseline.writes) THEN
            UPDATE dagz_baseline.state SET mark = pg_current_xact_id();
        END IF;
    END IF;
    RETURN ARRAY['repaired', NULL, stamp, NULL, sessions::text];
END $dagz$;"
    )
}
