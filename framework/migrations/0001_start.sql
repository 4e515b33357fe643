-- One text for SQLite and Postgres: BIGINT for every number and flag, BYTEA for bytes (SQLite
-- takes the name), TEXT for the rest. Times are milliseconds since 1970.

-- What only grows: account ids, incarnations.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

-- Made once by whoever starts first, read by all: the key that signs tokens.
CREATE TABLE secrets (
    name TEXT  NOT NULL PRIMARY KEY,
    data BYTEA NOT NULL
);

-- An entity's saved state. data is null from the first load to the first save: the row exists
-- from then on, so that owner_epoch fences an owner that never saved.
CREATE TABLE records (
    kind        TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    data        BYTEA,
    owner_epoch BIGINT NOT NULL,
    updated_ms  BIGINT NOT NULL,
    PRIMARY KEY (kind, key)
);

-- username is shown as it was chosen; username_key is its lower case and is what must be unique.
-- status: 1 open, 2 locked, 4 deleted.
CREATE TABLE accounts (
    id              BIGINT NOT NULL PRIMARY KEY,
    openid          TEXT   NOT NULL UNIQUE,
    username        TEXT,
    username_key    TEXT   UNIQUE,
    device_id       TEXT   UNIQUE,
    password_hash   TEXT,
    status          BIGINT NOT NULL,
    created_ms      BIGINT NOT NULL,
    last_sign_in_ms BIGINT NOT NULL
);
