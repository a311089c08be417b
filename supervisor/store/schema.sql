-- The one truth for state. Times are seconds since the epoch (for people and for rows that outlive a boot).
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS runs (
  run_id        TEXT PRIMARY KEY,
  seq           INTEGER NOT NULL UNIQUE,      -- order of admission
  name          TEXT NOT NULL,
  source        TEXT UNIQUE,                  -- command:17 | inbox:NAME@run_id; a repeated claim finds its run
  state         TEXT NOT NULL,
  desired       TEXT,                         -- what a person asked for while an attempt runs: paused | cancelled
  reason        TEXT NOT NULL DEFAULT '',     -- why it is in this state, in words
  priority      INTEGER NOT NULL DEFAULT 0,
  resuming      INTEGER NOT NULL DEFAULT 0,   -- 1: keeps its place before runs that have not started yet
  trainer       TEXT NOT NULL,                -- row of profiles/trainers
  job           TEXT NOT NULL,                -- JSON: config, provenance, stoker, base_dir, trainer environment names
  adapter_key   TEXT NOT NULL DEFAULT '',     -- realpath, case-folded: no two living runs write one folder
  attempt       INTEGER NOT NULL DEFAULT 0,
  iteration     INTEGER NOT NULL DEFAULT 0,
  iters         INTEGER,
  loss          REAL,
  exact         INTEGER NOT NULL DEFAULT 1,
  budget_from   INTEGER NOT NULL DEFAULT 0,   -- budgets count attempts after this one
  adjustments   TEXT NOT NULL DEFAULT '[]',   -- JSON, in force for the next attempt
  next          TEXT,                         -- JSON: how the next attempt starts (target, mode); NULL: from iteration 0
  wake_at       REAL,
  release       TEXT,                         -- what ends a hold: person | disk | data
  recorded      INTEGER NOT NULL DEFAULT 0,   -- its ending stands in training_runs.jsonl
  final         TEXT,                         -- JSON: adapter, sha256, loss
  created_at    REAL NOT NULL,
  started_at    REAL,
  ended_at      REAL
);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state, seq);
CREATE INDEX IF NOT EXISTS runs_by_name ON runs (name, seq);

CREATE TABLE IF NOT EXISTS attempts (
  run_id         TEXT NOT NULL REFERENCES runs (run_id),
  n              INTEGER NOT NULL,
  started_at     REAL NOT NULL,
  ended_at       REAL,
  boot_id        TEXT NOT NULL,
  from_iteration INTEGER NOT NULL,
  to_iteration   INTEGER,
  resume         TEXT NOT NULL,               -- fresh | exact | warm
  checkpoint     TEXT,                        -- resumed from
  labels         TEXT,                        -- JSON: why its weights need not be those of a stock run
  exit_code      INTEGER,
  signal         TEXT,
  cause          TEXT,
  diagnosis      TEXT,                        -- JSON
  plan           TEXT,                        -- JSON
  choice         TEXT,                        -- JSON: checkpoint chosen, those rejected and why
  lost_iterations INTEGER,
  best_checkpoint INTEGER,                    -- iteration of the newest good checkpoint when it ended
  train_s        REAL,                        -- seconds between its first and last heartbeat in training
  jit            INTEGER NOT NULL DEFAULT 1,  -- which kernel cache it used
  stop_asked_at  REAL,                        -- the stop ladder, on the continuous clock of this boot
  stop_kill_at   REAL,
  stop_stage     TEXT,                        -- term | kill
  PRIMARY KEY (run_id, n)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempts_by_start ON attempts (started_at);

CREATE TABLE IF NOT EXISTS events (           -- append-only
  id INTEGER PRIMARY KEY, run_id TEXT, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, data TEXT
);
CREATE INDEX IF NOT EXISTS events_by_run ON events (run_id, id);

CREATE TABLE IF NOT EXISTS commands (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, verb TEXT NOT NULL, payload TEXT NOT NULL, answer TEXT, answered_at REAL
);
CREATE INDEX IF NOT EXISTS commands_open ON commands (id) WHERE answer IS NULL;
