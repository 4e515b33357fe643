//! Owns datagrams of a codec's clients: one socket for all of them. A datagram belongs to the
//! connection that its sender has shown the word of; any other is dropped.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use metrics::Counter;
use rustc_hash::FxHashMap;
use tokio::{net::UdpSocket, sync::mpsc};

use super::kind::AnyCodec;
use crate::limits::{CODEC_DATAGRAM_BYTES_MAX, CODEC_DATAGRAMS_WAITING_MAX, CODEC_WORD_BYTES_MAX};

/// One socket, and whose the datagrams are that it brings.
#[derive(Debug)]
pub(in crate::gate) struct Hub {
    codec: Arc<dyn AnyCodec>,
    socket: UdpSocket,
    dropped: Counter,
    /// Std mutex: held to look one up.
    doors: Mutex<Doors>,
}

#[derive(Debug, Default)]
struct Doors {
    by_word: FxHashMap<Vec<u8>, Way>,
    by_addr: FxHashMap<SocketAddr, Way>,
}

/// To one connection.
#[derive(Clone, Debug)]
struct Way {
    datagrams: mpsc::Sender<Bytes>,
    /// Where its client is connected from: nobody else is sent anything, whatever a datagram says
    /// of where it came from.
    ip: IpAddr,
    /// Where its client was last.
    client: Arc<Mutex<Option<SocketAddr>>>,
}

/// One connection's side.
#[derive(Debug)]
pub(super) struct UdpDoor {
    hub: Arc<Hub>,
    way: Way,
    arrived: mpsc::Receiver<Bytes>,
    word: Option<Vec<u8>>,
}

impl Hub {
    pub(in crate::gate) fn open(
        codec: Arc<dyn AnyCodec>,
        socket: StdSocket,
        dropped: Counter,
    ) -> io::Result<Arc<Self>> {
        let (socket, doors) = (UdpSocket::from_std(socket)?, Mutex::default());
        Ok(Arc::new(Self { codec, socket, dropped, doors }))
    }

    /// Which codec's clients it serves.
    pub(in crate::gate) fn codec(&self) -> &Arc<dyn AnyCodec> {
        &self.codec
    }

    /// Hands datagrams to their connections, until the gate goes away.
    pub(in crate::gate) async fn run(self: Arc<Self>, gone: impl Future<Output = ()>) {
        tokio::select! {
            biased; // who goes away waits for nobody
            () = gone => {}
            () = self.receive() => {}
        }
    }

    async fn receive(&self) {
        // One byte more than is taken: what fills it was longer.
        let mut bytes = vec![0; CODEC_DATAGRAM_BYTES_MAX + 1];
        loop {
            match self.socket.recv_from(&mut bytes).await {
                Ok((len, from)) if len <= CODEC_DATAGRAM_BYTES_MAX => {
                    self.hand(&bytes[..len], from)
                }
                Ok(_) => self.dropped.increment(1),
                // Of an earlier datagram that could not be delivered, or a want that passes.
                Err(e) => {
                    tracing::debug!(target: "gate", "a datagram was not received: {e}");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn hand(&self, datagram: &[u8], from: SocketAddr) {
        let claimed = self.codec.claims(datagram);
        let mut doors = self.doors();
        if let Some(word) = claimed {
            let way = doors.by_word.get(&word).filter(|way| way.ip == from.ip().to_canonical());
            let Some(way) = way.cloned() else { return self.dropped.increment(1) };
            let before = way.client().replace(from);
            if let Some(before) = before.filter(|before| *before != from) {
                doors.forget(before, &way);
            }
            doors.by_addr.insert(from, way);
            return;
        }
        let sent = doors
            .by_addr
            .get(&from)
            .is_some_and(|way| way.datagrams.try_send(Bytes::copy_from_slice(datagram)).is_ok());
        if !sent {
            self.dropped.increment(1);
        }
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doors {
    /// Another connection may expect the same word by now.
    fn unexpect(&mut self, word: &[u8], way: &Way) {
        if self.by_word.get(word).is_some_and(|known| known.is(way)) {
            self.by_word.remove(word);
        }
    }

    /// Another connection's client may be there by now.
    fn forget(&mut self, client: SocketAddr, way: &Way) {
        if self.by_addr.get(&client).is_some_and(|known| known.is(way)) {
            self.by_addr.remove(&client);
        }
    }
}

impl Way {
    fn client(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UdpDoor {
    /// For a client that is connected from this address.
    pub(super) fn new(hub: Arc<Hub>, client: IpAddr) -> Self {
        let (datagrams, arrived) = mpsc::channel(CODEC_DATAGRAMS_WAITING_MAX);
        let way = Way { datagrams, ip: client.to_canonical(), client: Arc::default() };
        Self { hub, way, arrived, word: None }
    }

    /// The client may ask for datagrams with this word, and with none that was told before.
    pub(super) fn expect(&mut self, word: Vec<u8>) {
        if word.len() > CODEC_WORD_BYTES_MAX {
            tracing::warn!(target: "gate", "a codec's word for datagrams is too long: there are none");
            return;
        }
        let mut doors = self.hub.doors();
        if let Some(before) = self.word.replace(word.clone()) {
            doors.unexpect(&before, &self.way);
        }
        doors.by_word.insert(word, self.way.clone());
    }

    /// Sends a datagram, which may be lost. Says whether it may be on its way.
    pub(super) fn send(&self, datagram: &[u8]) -> bool {
        let Some(client) = *self.way.client() else { return false };
        if datagram.len() > CODEC_DATAGRAM_BYTES_MAX {
            return false;
        }
        // What the system has no room for is lost, as on the way.
        let _lost: io::Result<usize> = self.hub.socket.try_send_to(datagram, client);
        true
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match self.arrived.poll_recv(cx) {
            Poll::Ready(Some(datagram)) => Poll::Ready(datagram),
            // Never closed: this side holds a sender.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for UdpDoor {
    /// What still comes for it is nobody's.
    fn drop(&mut self) {
        let mut doors = self.hub.doors();
        if let Some(word) = &self.word {
            doors.unexpect(word, &self.way);
        }
        let client = *self.way.client();
        if let Some(client) = client {
            doors.forget(client, &self.way);
        }
    }
}

impl Way {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.client, &other.client)
    }
}
