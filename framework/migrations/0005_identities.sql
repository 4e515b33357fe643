-- Who of a validator has which account. The subject is what the validator knows somebody by,
-- compared as it is.
CREATE TABLE identities (
    validator  TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    account_id BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (validator, subject)
);
