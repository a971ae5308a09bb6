-- Rendered from schema.py; a test says when it is stale.

CREATE TABLE heads (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	stream TEXT NOT NULL,
	epoch INTEGER DEFAULT 0 NOT NULL,
	seq INTEGER DEFAULT 0 NOT NULL,
	hash BLOB NOT NULL,
	holder TEXT DEFAULT '' NOT NULL,
	lease_until_us INTEGER,
	CONSTRAINT heads_stream UNIQUE (stream)
);

CREATE TABLE events (
	position INTEGER NOT NULL,
	stream_id INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	run_id TEXT NOT NULL,
	type TEXT NOT NULL,
	at_us INTEGER NOT NULL,
	data BLOB NOT NULL,
	prev_hash BLOB NOT NULL,
	hash BLOB NOT NULL,
	PRIMARY KEY (position),
	CONSTRAINT events_seq UNIQUE (stream_id, seq)
);

CREATE TABLE owners (
	id INTEGER NOT NULL,
	owner TEXT NOT NULL,
	wrapped BLOB,
	created_us INTEGER DEFAULT 0 NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT owners_owner UNIQUE (owner)
);

CREATE TABLE bodies (
	id INTEGER NOT NULL,
	owner_id INTEGER NOT NULL,
	digest TEXT NOT NULL,
	sealed BLOB NOT NULL,
	stream_id INTEGER DEFAULT 0 NOT NULL,
	shared INTEGER DEFAULT 0 NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT bodies_digest UNIQUE (owner_id, digest)
);

CREATE TABLE entries (
	kind TEXT NOT NULL,
	id TEXT NOT NULL,
	stream TEXT NOT NULL,
	tenant TEXT DEFAULT '' NOT NULL,
	owner TEXT DEFAULT '' NOT NULL,
	agent TEXT DEFAULT '' NOT NULL,
	status TEXT DEFAULT '' NOT NULL,
	ref TEXT DEFAULT '' NOT NULL,
	digest TEXT DEFAULT '' NOT NULL,
	due_us INTEGER DEFAULT 0 NOT NULL,
	created_us INTEGER DEFAULT 0 NOT NULL,
	updated_us INTEGER DEFAULT 0 NOT NULL,
	PRIMARY KEY (kind, id)
)
 WITHOUT ROWID;

CREATE INDEX entries_live ON entries (kind, status, id) WHERE status IN ('open', 'running', 'held', 'dead', 'pending', 'in_doubt');

CREATE INDEX entries_owner ON entries (owner, kind, id);

CREATE TABLE inbox (
	position INTEGER NOT NULL,
	id TEXT NOT NULL,
	stream TEXT NOT NULL,
	"key" TEXT NOT NULL,
	data BLOB,
	at_us INTEGER DEFAULT 0 NOT NULL,
	PRIMARY KEY (position),
	CONSTRAINT inbox_id UNIQUE (id),
	CONSTRAINT inbox_key UNIQUE (stream, "key")
);

CREATE INDEX inbox_waiting ON inbox (stream, position) WHERE data IS NOT NULL;

CREATE TABLE settings (
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
)
 WITHOUT ROWID;
