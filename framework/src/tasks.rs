//! Owns every task: the only place that spawns, so that shutdown can tell, wait and give up.

use std::{future::Future, time::Duration};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a task on the runtime of the caller.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tracker.spawn(task);
    }

    /// Runs a task on another runtime.
    pub(crate) fn spawn_on<F>(&self, task: F, runtime: &Handle)
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tracker.spawn_on(task, runtime);
    }

    /// Tells every task that asks to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves when the tasks are told to stop.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until every task has ended; how many have not when `patience` is over.
    pub(crate) async fn wait(&self, patience: Duration) -> usize {
        self.tracker.close();
        match tokio::time::timeout(patience, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}
