//! Owns what is said when etcd cannot be used. Nothing here holds a password.

use std::{error::Error as _, path::PathBuf};

/// Why something could not be asked of etcd, or was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EtcdError {
    /// Nothing says where etcd is.
    #[error("`discovery.etcd` is empty: name at least one address, such as http://127.0.0.1:2379")]
    NoEndpoint,
    /// An address that cannot be one.
    #[error("`discovery.etcd` has {endpoint}: {why}; write it as http://host:2379")]
    Endpoint { endpoint: String, why: String },
    /// Half of a pair, or a setting that another one rules out.
    #[error("{0}")]
    Settings(&'static str),
    /// A file that cannot be read, or that holds something else.
    #[error("`{key}` is {}, which cannot be used: {why}", path.display())]
    File { key: &'static str, path: PathBuf, why: String },
    /// etcd is away, frozen or far too slow. Whether it was done is unknown.
    #[error("etcd of `discovery.etcd` did not answer in time")]
    TimedOut,
    /// etcd answered, or the way to it did, with a reason.
    #[error("etcd of `discovery.etcd` did not do it: {0}")]
    Failed(String),
    /// What was held under a lease is gone. Begin anew with another lease.
    #[error("etcd no longer knows the lease of this node")]
    Lost,
    /// The watch wanted what etcd has thrown away by now. Begin anew with a snapshot.
    #[error("etcd has compacted what the watch was to begin with")]
    Compacted,
    /// The runtime that drives connections ends. Nothing is to be done.
    #[error("the node is ending")]
    Ending,
}

/// The gRPC status of a server that cannot be reached, as the protocol has it.
const UNAVAILABLE: i32 = 14;

/// What the client calls a lease of which etcd says that no time is left.
const NO_TIME_LEFT: &str = "lease not found";

impl From<etcd_client::Error> for EtcdError {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error::{GRpcStatus, LeaseKeepAliveError};
        match &error {
            LeaseKeepAliveError(why) if why == NO_TIME_LEFT => Self::Lost,
            // The election's code is `Unknown`: it asks etcd through a client of its own.
            GRpcStatus(status) if status.message().contains("requested lease not found") => {
                Self::Lost
            }
            GRpcStatus(status) => {
                // The causes behind it, since "transport error" alone helps nobody.
                let mut why = status.message().to_owned();
                let mut cause = status.source();
                while let Some(error) = cause {
                    let text = error.to_string();
                    if !why.ends_with(&text) {
                        why = format!("{why}: {text}");
                    }
                    cause = error.source();
                }
                Self::Failed(why)
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Whether it is worth asking another server at once: this one cannot be reached.
pub(super) fn unreachable(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    i32::from(status.code()) == UNAVAILABLE
}
