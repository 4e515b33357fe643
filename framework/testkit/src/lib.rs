//! Starts real etcd, Redis and PostgreSQL servers for the tests.
