-- A sign-in: what one proof of who somebody is has led to. A refresh token is the name of its
-- family and a secret that changes at each use; both are kept as SHA-256. A credential of the login
-- server has neither. app_id: '' where none was named. role: '' for a player. parent: the sign-in
-- that this one ends with, or ''. ended_ms: 0 while it lives; who has ended stays until its last
-- token has run out, so that gates can be told again.
CREATE TABLE sign_ins (
    sid        TEXT   NOT NULL PRIMARY KEY,
    account_id BIGINT NOT NULL,
    openid     TEXT   NOT NULL,
    app_id     TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    parent     TEXT   NOT NULL,
    family     BYTEA  UNIQUE,
    secret     BYTEA,
    began_ms   BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    ended_ms   BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX sign_ins_of_account ON sign_ins (account_id, ended_ms, began_ms);
CREATE INDEX sign_ins_by_expiry ON sign_ins (expires_ms);
CREATE INDEX sign_ins_by_end ON sign_ins (ended_ms);
CREATE INDEX sign_ins_by_parent ON sign_ins (parent);

-- What an app knows an account by.
CREATE TABLE openids (
    app_id     TEXT   NOT NULL,
    account_id BIGINT NOT NULL,
    openid     TEXT   NOT NULL UNIQUE,
    PRIMARY KEY (account_id, app_id)
);

-- The keys that sign tokens, as PKCS#8, oldest first: each is published from made_ms on, and signs
-- from signs_from_ms on until the next one does.
CREATE TABLE signing_keys (
    seq           BIGINT NOT NULL PRIMARY KEY,
    data          BYTEA  NOT NULL,
    made_ms       BIGINT NOT NULL,
    signs_from_ms BIGINT NOT NULL
);
INSERT INTO signing_keys (seq, data, made_ms, signs_from_ms)
    SELECT 1, data, 0, 0 FROM secrets WHERE name = 'token.signing.1';
DELETE FROM secrets WHERE name = 'token.signing.1';
