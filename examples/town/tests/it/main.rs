//! The town as its operator sees it: a program with arguments, output, signals and exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod browser;
mod chats;
mod cluster;
mod corpus;
mod ends;
mod envelopes;
mod hostile;
mod jigger;
mod load;
mod members;
mod mope;
mod nodes;
mod npm;
mod operate;
mod outages;
mod players;
mod python;
mod rooms;
mod sessions;
mod steady;
mod town;
mod web;
mod wx;
