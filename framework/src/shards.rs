//! Owns the shards: single-threaded runtimes, by default one a core less one, that carry connections and entities.
//!
//! A connection and the entities it wakes first share a shard, so that a message crosses no
//! thread and what is ready together is written together. On a work-stealing pool the same path
//! costs about twice the CPU (woken writers run before the other ready clients).

use std::{
    cell::Cell,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// The number of the shard that this runs on; 0 also for threads that are none.
pub(crate) fn here() -> usize {
    HERE.get()
}

/// The runtimes of one node.
#[derive(Debug)]
pub(crate) struct Shards {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    next: AtomicUsize,
}

impl Shards {
    /// Starts `count` threads with a runtime each.
    ///
    /// # Errors
    /// When the operating system refuses a thread or an event queue.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for n in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stopped = stop.clone();
            let thread = thread::Builder::new().name(format!("shard-{n}"));
            threads.push(thread.spawn(move || {
                HERE.set(n);
                runtime.block_on(stopped.cancelled());
                runtime.shutdown_background();
            })?);
        }
        Ok(Self { handles, threads, stop, next: AtomicUsize::new(0) })
    }

    /// Every shard, in the order of their numbers.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.handles.clone()
    }

    /// The shard for the next connection, in turn.
    pub(crate) fn next(&self) -> &Handle {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[n % self.handles.len()]
    }

    /// Ends the threads; tasks still on them are dropped at their next await.
    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // The last task that held the node drops it on its own shard: nobody joins himself.
            if thread.thread().id() == thread::current().id() {
                continue;
            }
            if thread.join().is_err() {
                tracing::error!(target: "node", "a shard's thread panicked");
            }
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_may_end_on_one_of_their_own_threads() {
        let shards = Shards::start(2).expect("threads");
        let one = shards.next().clone();
        let (tell, ended) = std::sync::mpsc::channel();
        one.spawn(async move {
            drop(shards);
            tell.send(()).expect("heard");
        });
        ended.recv().expect("nobody panicked");
    }
}
