//! The tables, and how an older file is brought up to date.

use rusqlite::Connection;

/// `PRAGMA application_id`: "disp", so that `file(1)` and we can tell the file from any other database.
pub(super) const APPLICATION_ID: i32 = 0x6469_7370;

/// The schema version this program writes.
pub(super) const VERSION: i32 = 2;

/// One step per schema version: `MIGRATIONS[n]` turns version n into n + 1.
///
/// The state of an event is 0 pending, 1 delivered, 2 dead, 3 dropped; see [`super::row`] for the checksum.
/// Few indexes, all partial, so that a settled event costs none.
const MIGRATIONS: [&str; VERSION as usize] = ["
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;

    -- Every mapping that was ever in force, so that the audit can say what an event was mapped with.
    CREATE TABLE mapping(id INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL, json TEXT NOT NULL);

    CREATE TABLE event(
        id INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        severity INTEGER NOT NULL,
        place INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        mapping INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        contact TEXT NOT NULL,
        code TEXT NOT NULL,
        result TEXT,
        stamp TEXT,
        category TEXT NOT NULL,
        revived_ms INTEGER,
        due_ms INTEGER,
        settled_ms INTEGER,
        status INTEGER,
        latency_ms INTEGER,
        reason TEXT,
        answer TEXT,
        crc INTEGER NOT NULL
    );
    -- Whose turn it is: critical first, then by place.
    CREATE INDEX event_turn ON event(severity > 0, place) WHERE state = 0;
    -- What else this contact is waiting for.
    CREATE INDEX event_lane ON event(contact, place) WHERE state = 0;
    CREATE INDEX event_dead ON event(id) WHERE state = 2;

    -- Idempotency keys, by the second the event bears (see DedupeKey), so that what comes together lies together.
    CREATE TABLE seen(key BLOB PRIMARY KEY, event INTEGER NOT NULL, kept_s INTEGER NOT NULL) WITHOUT ROWID;

    -- Append-only: what happened to an event beyond its row's own story (received, mapped, settled).
    CREATE TABLE step(
        id INTEGER PRIMARY KEY,
        event INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        attempt INTEGER,
        status INTEGER,
        latency_ms INTEGER,
        note TEXT
    );
    CREATE INDEX step_event ON step(event);

    -- Delivered events in the order of delivery, while a durable subscriber still has to hear of them.
    CREATE TABLE outbox(seq INTEGER PRIMARY KEY, event INTEGER NOT NULL, severity INTEGER NOT NULL);
    CREATE INDEX outbox_event ON outbox(event);
    CREATE TABLE subscriber(
        name TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        disabled TEXT
    ) WITHOUT ROWID;
", "
    -- The idempotency key, where a header gave one; else it follows from the content. It is not in the checksum.
    ALTER TABLE event ADD COLUMN key BLOB;
    -- The table `seen` has the keys of the events up to this id.
    INSERT INTO meta(name, value) SELECT 'keys_through', coalesce(max(id), 0) FROM event;
"];

/// Brings the schema to [`VERSION`] in one transaction; does nothing when it is there.
pub(super) fn migrate(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    if from == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        let store_id = format!("{:08x}", fastrand::u32(..));
        transaction.execute("INSERT INTO meta(name, value) VALUES('store_id', ?1)", [store_id])?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Whether there is nothing in it yet.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// The first table or index that is not as [`MIGRATIONS`] make it: a damaged schema would be obeyed. What others
/// have added does not matter.
pub(super) fn difference(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let model = Connection::open_in_memory()?;
    MIGRATIONS.iter().try_for_each(|migration| model.execute_batch(migration))?;
    let mut wanted =
        model.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let mut there = connection.prepare(
        "SELECT 1 FROM sqlite_schema WHERE type = ?1 AND name = ?2 AND tbl_name = ?3 AND sql = ?4",
    )?;
    let mut rows = wanted.query([])?;
    while let Some(row) = rows.next()? {
        let [kind, name, table, sql]: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
        if !there.exists([&kind, &name, &table, &sql])? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
