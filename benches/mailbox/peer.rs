//! Owns what a peer must do: actors that add up numbers, and say whether the sum is right.

use std::future::Future;

use tokio::runtime::Builder;

/// One crate's actors.
pub(crate) trait Peer: 'static {
    const NAME: &'static str;
    /// Whoever tells too much waits.
    const BOUNDED: bool;
    /// How an actor is spoken to.
    type Actor: Send + Sync + 'static;

    /// Runs who tells, and the actors, on so many threads.
    fn block_on<T, F>(threads: usize, work: F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut builder = match threads {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        let runtime = builder.worker_threads(threads).enable_all().build().expect("a runtime");
        // On a thread of the runtime's own: the caller's is none of them.
        runtime.block_on(runtime.spawn(work)).expect("no panic")
    }

    fn spawn(threads: usize) -> impl Future<Output = Self::Actor> + Send;

    fn tell(actor: &Self::Actor, number: u64) -> impl Future<Output = ()> + Send;

    /// Whether the actor was told that much so far.
    fn ask(actor: &Self::Actor, sum: i32) -> impl Future<Output = bool> + Send;
}
