-- phone is E.164, such as +8613812345678, and signs in to one account. last_play_ms is when a
-- session of the account ended last (0: none has). email is shown as it was given; email_key is its
-- lower case and is what must be unique.
ALTER TABLE accounts ADD COLUMN phone TEXT;
ALTER TABLE accounts ADD COLUMN email TEXT;
ALTER TABLE accounts ADD COLUMN email_key TEXT;
ALTER TABLE accounts ADD COLUMN last_play_ms BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX accounts_phone ON accounts (phone);
CREATE UNIQUE INDEX accounts_email ON accounts (email_key);

-- What happened to accounts, for operators. id is random and only tells rows of one millisecond
-- apart; the key keeps the rows of an account together, newest last.
CREATE TABLE audit (
    account_id BIGINT NOT NULL,
    at_ms      BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    what       TEXT   NOT NULL,
    way        TEXT   NOT NULL,
    app_id     TEXT,
    ip         TEXT,
    detail     TEXT   NOT NULL,
    PRIMARY KEY (account_id, at_ms, id)
);

-- For the sweep of what is too old.
CREATE INDEX audit_at ON audit (at_ms);
