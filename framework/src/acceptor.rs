//! Owns taking connections from a listener: when the machine has no more files the others go on,
//! new ones wait a little, and the operator is told once a minute.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// How long accepting pauses when the operating system has no more files.
const RETRY: Duration = Duration::from_millis(50);

/// How often the operator is told while that lasts.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// Takes connections from one listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// The configuration key of the listener.
    key: &'static str,
    told: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, key: &'static str) -> Self {
        Self { listener, key, told: None }
    }

    /// The next connection, and whose it is. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(e) => {
                    if self.told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
                        tracing::warn!(
                            target: "node", listener = self.key,
                            "connections cannot be accepted: {e}; raise the limit of open files, \
                             or lower gate.connections_max"
                        );
                        self.told = Some(Instant::now());
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }
}
