-- Until when an account is banned, in milliseconds since 1970 (0: it is not), and why.
ALTER TABLE accounts ADD COLUMN banned_until_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN banned_reason TEXT NOT NULL DEFAULT '';
