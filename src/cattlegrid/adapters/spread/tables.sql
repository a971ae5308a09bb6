-- What procrastinate does not keep: when rounds are due, and which tasks have been put, whatever became of them.
CREATE TABLE rounds (
  name text PRIMARY KEY,
  every_s double precision NOT NULL,
  due timestamptz NOT NULL
);

CREATE TABLE tasks (
  name text NOT NULL,
  key text NOT NULL,
  batch text NOT NULL,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
  ended_at timestamptz,
  PRIMARY KEY (name, key)
);

CREATE INDEX tasks_batch ON tasks (batch, state);
CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;
