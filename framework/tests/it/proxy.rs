//! Owns a bad network: a proxy before a gate that cuts, stalls, or lets through only so many bytes
//! more, when a test says so.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What may pass, each way, on the connections there are now.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fair,
    /// Connections of this number and before are closed.
    Cut(usize),
    /// Nothing passes, and nobody is told.
    Stalled,
    /// So many bytes more pass to the client, then its connection is closed.
    Down(usize),
    /// The same to the gate.
    Up(usize),
    /// Connections are closed as they come, and those there are.
    Closed,
}

/// The proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    weather: watch::Sender<Weather>,
    taken: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, sees) = watch::channel(Weather::Fair);
        let (counts, taken) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, gate, sees, counts));
        Self { address, weather, taken, _tasks: tasks }
    }

    /// Closes the connections that there are.
    pub(crate) fn cut(&self) {
        self.weather.send_replace(Weather::Cut(*self.taken.borrow()));
    }

    /// Lets `bytes` more through to the client, then closes the connection that there is.
    pub(crate) fn cut_down_after(&self, bytes: usize) {
        self.weather.send_replace(Weather::Down(bytes));
    }

    /// Lets `bytes` more through to the gate, then closes the connection that there is.
    pub(crate) fn cut_up_after(&self, bytes: usize) {
        self.weather.send_replace(Weather::Up(bytes));
    }

    /// Delivers nothing any more.
    pub(crate) fn stall(&self) {
        self.weather.send_replace(Weather::Stalled);
    }

    /// Nobody gets through, until the weather is [`Proxy::fair`] again.
    pub(crate) fn close(&self) {
        self.weather.send_replace(Weather::Closed);
    }

    pub(crate) fn fair(&self) {
        self.weather.send_replace(Weather::Fair);
    }

    /// Connections so far.
    pub(crate) fn taken(&self) -> usize {
        *self.taken.borrow()
    }
}

async fn accept(
    listener: TcpListener,
    gate: SocketAddr,
    sees: watch::Receiver<Weather>,
    counts: watch::Sender<usize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        counts.send_modify(|count| *count += 1);
        let number = *counts.borrow();
        connections.spawn(carry(client, gate, number, sees.clone(), counts.subscribe()));
    }
}

async fn carry(
    client: TcpStream,
    gate: SocketAddr,
    number: usize,
    mut sees: watch::Receiver<Weather>,
    taken: watch::Receiver<usize>,
) {
    // What was said before it came is for those before it.
    sees.mark_unchanged();
    if matches!(*sees.borrow(), Weather::Closed) {
        return;
    }
    let Ok(gate) = TcpStream::connect(gate).await else { return };
    client.set_nodelay(true).unwrap();
    gate.set_nodelay(true).unwrap();
    let ((from_client, to_client), (from_gate, to_gate)) = (client.into_split(), gate.into_split());
    let latest = Arc::new(move || *taken.borrow() == number);
    let (up, down) = (sees.clone(), sees.clone());
    let closed = async {
        let mut cut = |weather: &Weather| match weather {
            Weather::Cut(upto) => number <= *upto,
            Weather::Closed => true,
            _ => false,
        };
        // An error is the end of the test.
        let _seen = sees.wait_for(&mut cut).await.is_ok();
    };
    tokio::select! {
        () = pass(from_client, to_gate, up, true, latest.clone()) => {}
        () = pass(from_gate, to_client, down, false, latest) => {}
        () = closed => {}
    }
}

/// Carries bytes one way until that ends, or is ended.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut sees: watch::Receiver<Weather>,
    up: bool,
    latest: Arc<impl Fn() -> bool>,
) {
    let mut bytes = vec![0; 4096];
    let mut left = None;
    loop {
        if sees.has_changed().unwrap_or(false) {
            let weather = *sees.borrow_and_update();
            left = match weather {
                Weather::Down(bytes) if !up && latest() => Some(bytes),
                Weather::Up(bytes) if up && latest() => Some(bytes),
                Weather::Stalled if latest() => return std::future::pending().await,
                _ => None,
            };
        }
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            Ok(()) = sees.changed() => {
                sees.mark_changed();
                continue;
            }
        };
        let Ok(read @ 1..) = read else { return };
        let passes = read.min(left.unwrap_or(read));
        if to.write_all(&bytes[..passes]).await.is_err() || passes < read || left == Some(passes) {
            return;
        }
        left = left.map(|left| left - passes);
    }
}
