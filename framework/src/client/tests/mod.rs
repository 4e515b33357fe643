//! The session against a model of the server, over connections that are cut at any byte, in
//! virtual time.

mod cuts;
mod life;
mod model;
mod page;
