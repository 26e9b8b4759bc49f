"""The tables of an index, and what is written to them.

    names           text that recurs: event types, topics, agents, versions, instances, sources, models
    sources         topics that were read; one made anew under its name is another source
    positions       how far each partition was read; changes with the rows that were read, or not at all
    events          one row for each place at which an event stands
    payloads        their data, beside them, so that lists need not pass over it
    schemas         by which that data was written
    deliveries      one row for each attempt of an agent at an event, as activity tells of it
    calls           what model calls cost, and when they were
    clocks          by how much effects came after their causes, by the clocks of two producers, at least in each hour
    replays         workflows whose events were published once more by a live replay
    workers         the last heartbeat of each worker
    workflows       what follows from the rows above, for lists; made again when they change
    touched         workflows of which that has still to be done
    notes           what else an index knows about itself

An event is known by where it was read, an attempt by what it says of itself: who, at which event, when, for the
how-manieth time. So reading either again adds nothing, and an attempt that is told of twice is one. The rows of one
workflow lie together, and workflows by time, as their ids do.

The statements are those that SQLite and PostgreSQL both understand, but for the
types and what stands behind the columns; `postgres` says which.
"""

from __future__ import annotations

VERSION = 3
"""Of what follows. A change to it is a new entry of `FORMS`, and this number one higher."""

_FIRST = """
CREATE TABLE names (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE sources (
    no INTEGER PRIMARY KEY, topic TEXT NOT NULL, topic_no INTEGER NOT NULL, identity TEXT NOT NULL,
    UNIQUE (topic, identity)
);
CREATE TABLE positions (
    source INTEGER NOT NULL, part INTEGER NOT NULL, next BIGINT NOT NULL, PRIMARY KEY (source, part)
);
CREATE TABLE events (
    workflow BLOB NOT NULL, source INTEGER NOT NULL, part INTEGER NOT NULL, place BIGINT NOT NULL,
    id BLOB NOT NULL, type INTEGER NOT NULL, sayer INTEGER NOT NULL, time_us BIGINT NOT NULL,
    parent BLOB, hops INTEGER NOT NULL, more TEXT,
    PRIMARY KEY (workflow, source, part, place)
) WITHOUT ROWID;
CREATE TABLE payloads (
    workflow BLOB NOT NULL, source INTEGER NOT NULL, part INTEGER NOT NULL, place BIGINT NOT NULL,
    form INTEGER NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (workflow, source, part, place)
) WITHOUT ROWID;
CREATE TABLE deliveries (
    workflow BLOB NOT NULL, event BLOB NOT NULL, agent INTEGER NOT NULL, started_us BIGINT NOT NULL,
    instance INTEGER NOT NULL, attempt INTEGER NOT NULL,
    type INTEGER NOT NULL, version INTEGER NOT NULL, outcome INTEGER NOT NULL,
    duration_us BIGINT NOT NULL, queue_us BIGINT NOT NULL, confidence DOUBLE PRECISION, emitted BLOB, more TEXT,
    PRIMARY KEY (workflow, event, agent, started_us, instance, attempt)
) WITHOUT ROWID;
CREATE INDEX confident ON deliveries (agent, version, started_us, confidence) WHERE confidence IS NOT NULL;
CREATE TABLE calls (
    workflow BLOB NOT NULL, event BLOB NOT NULL, agent INTEGER NOT NULL, started_us BIGINT NOT NULL,
    instance INTEGER NOT NULL, attempt INTEGER NOT NULL, call INTEGER NOT NULL,
    version INTEGER NOT NULL, model INTEGER NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cost DOUBLE PRECISION NOT NULL, currency TEXT NOT NULL,
    PRIMARY KEY (workflow, event, agent, started_us, instance, attempt, call)
) WITHOUT ROWID;
CREATE TABLE clocks (
    cause INTEGER NOT NULL, effect INTEGER NOT NULL, hour INTEGER NOT NULL, least_us BIGINT NOT NULL,
    PRIMARY KEY (cause, effect, hour)
) WITHOUT ROWID;
CREATE TABLE workers (
    name TEXT PRIMARY KEY, source INTEGER NOT NULL, part INTEGER NOT NULL, place BIGINT NOT NULL, seen TEXT
);
CREATE TABLE workflows (
    workflow BLOB PRIMARY KEY, state TEXT NOT NULL, type TEXT, begun_us BIGINT NOT NULL, last_us BIGINT NOT NULL,
    events INTEGER NOT NULL, agents TEXT NOT NULL, failed_agent TEXT, owing TEXT NOT NULL, lacking INTEGER NOT NULL,
    cost TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_state ON workflows (state, begun_us);
CREATE INDEX by_begin ON workflows (begun_us);
CREATE TABLE schemas (reference TEXT PRIMARY KEY, schema TEXT NOT NULL);
CREATE TABLE touched (workflow BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

_TIMES_AND_REPLAYS = """
ALTER TABLE calls ADD COLUMN begun_us BIGINT;
ALTER TABLE calls ADD COLUMN took_us BIGINT;
CREATE TABLE replays (workflow BLOB PRIMARY KEY) WITHOUT ROWID;
INSERT INTO replays SELECT DISTINCT workflow FROM events WHERE more LIKE '%"replay_of":%';
"""

FORMS: dict[int, str] = {2: _FIRST, 3: _TIMES_AND_REPLAYS}
"""What makes each version out of the one before. The first one stood in no release, and is made again."""

EVENTS = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
PAYLOADS = "INSERT INTO payloads VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
DELIVERIES = "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
CALLS = "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
REPLAYS = "INSERT INTO replays VALUES (?) ON CONFLICT DO NOTHING"
NO_REPLAY = "workflow NOT IN (SELECT workflow FROM replays)"
"""The condition that a row is of production's own work."""
CLOCKS = """
INSERT INTO clocks VALUES (?, ?, ?, ?) ON CONFLICT (cause, effect, hour) DO UPDATE
SET least_us = CASE WHEN excluded.least_us < clocks.least_us THEN excluded.least_us ELSE clocks.least_us END
"""
WORKERS = """
INSERT INTO workers VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
SET source = excluded.source, part = excluded.part, place = excluded.place, seen = excluded.seen
WHERE (excluded.source, excluded.part, excluded.place) > (workers.source, workers.part, workers.place)
"""
TOUCHED = "INSERT INTO touched VALUES (?) ON CONFLICT DO NOTHING"
WORKFLOWS = """
INSERT INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (workflow) DO UPDATE
SET state = excluded.state, type = excluded.type, begun_us = excluded.begun_us, last_us = excluded.last_us,
    events = excluded.events, agents = excluded.agents, failed_agent = excluded.failed_agent, owing = excluded.owing,
    lacking = excluded.lacking, cost = excluded.cost
"""
POSITIONS = """
INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT (source, part) DO UPDATE
SET next = CASE WHEN excluded.next > positions.next THEN excluded.next ELSE positions.next END
"""
SCHEMAS = "INSERT INTO schemas VALUES (?, ?) ON CONFLICT DO NOTHING"
NAMES = "INSERT INTO names VALUES (?, ?) ON CONFLICT DO NOTHING"
NOTES = "INSERT INTO notes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
