//! Owns what this node holds in etcd: a lease, its renewal, and the registration under it.

use std::time::Duration;

use etcd_client::PutOptions;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Etcd, EtcdError, Patience};
use crate::{directory::NodeInfo, limits::DEREGISTER_DEADLINE, tasks::Tasks};

impl Etcd {
    /// Registers what `info` holds and keeps it registered until the tasks stop or `info` has no
    /// sender any more; then, and while `info` holds nothing, what was registered is taken back.
    /// The id in it must stay the same.
    /// If the task is dropped instead, the lease runs out.
    ///
    /// Calls `proved` with the instant of each question by whose answer etcd gave the lease its
    /// full time: until the lease's length after that instant, the registration stands for sure.
    pub(crate) async fn keep(
        self,
        mut info: watch::Receiver<Option<NodeInfo>>,
        proved: impl Fn(Instant) + Send + 'static,
        tasks: Tasks,
    ) {
        let mut patience = self.patience();
        let mut registration = Registration { etcd: self, lease: None, told: None };
        let mut lost_before = false;
        while info.has_changed().is_ok() {
            let wanted = info.borrow_and_update().clone();
            let step = select! {
                // Stop first: a step may take its whole deadline.
                biased;
                () = tasks.stopped() => break,
                step = registration.step(wanted.as_ref()) => step,
            };
            let pause = match step {
                Ok(Step::Proved(sent)) => {
                    patience.fine();
                    lost_before = false;
                    // The answer may be old by now, if this process was frozen.
                    if sent.elapsed() < registration.etcd.shared.settings.lease {
                        proved(sent);
                    }
                    continue;
                }
                Ok(Step::Done { due }) => {
                    patience.fine();
                    let due = async move {
                        match due {
                            Some(due) => sleep_until(due).await,
                            None => std::future::pending().await,
                        }
                    };
                    select! {
                        () = tasks.stopped() => break,
                        // An end of `info` is seen where the loop begins.
                        _ = info.changed() => {}
                        () = due => {}
                    }
                    continue;
                }
                Err(EtcdError::Lost) => {
                    tracing::warn!(target: "directory", "etcd lost the lease of this node: registering again");
                    registration.forget();
                    // At once, but a lease that is lost each time is not asked for in a loop.
                    if !std::mem::replace(&mut lost_before, true) {
                        continue;
                    }
                    patience.pause()
                }
                Err(e) => patience.failed(&e),
            };
            select! {
                () = tasks.stopped() => break,
                () = sleep(pause) => {}
            }
        }
        registration.take_back().await;
    }
}

/// What this node has in etcd.
struct Registration {
    etcd: Etcd,
    lease: Option<Lease>,
    /// The words that stand under the lease.
    told: Option<Vec<u8>>,
}

enum Step {
    /// The lease has its full time again, counted from here, and the registration stands.
    Proved(Instant),
    /// All is as it should be until the lease must be renewed.
    Done { due: Option<Instant> },
}

impl Registration {
    /// Does the next thing that brings etcd nearer to what is wanted.
    async fn step(&mut self, wanted: Option<&NodeInfo>) -> Result<Step, EtcdError> {
        let Some(wanted) = wanted else {
            if let Some(lease) = &self.lease {
                lease.revoke(&self.etcd).await?;
                self.forget();
            }
            return Ok(Step::Done { due: None });
        };
        let lease = match &mut self.lease {
            Some(lease) => lease,
            none => none.insert(Lease::grant(&self.etcd).await?),
        };
        // Before anything is told, so that a node that has much to tell keeps its lease.
        if lease.due() <= Instant::now() {
            lease.renew(&self.etcd).await?;
            if self.told.is_some() {
                return Ok(Step::Proved(lease.proved));
            }
        }
        let words = serde_json::to_vec(wanted).expect("a node is plain data");
        if self.told.as_ref() == Some(&words) {
            return Ok(Step::Done { due: Some(lease.due()) });
        }
        let key = format!("{}{}", self.etcd.nodes_prefix(), wanted.id);
        let under = PutOptions::new().with_lease(lease.id);
        self.etcd
            .call(|mut etcd| {
                let (key, words, under) = (key.clone(), words.clone(), under.clone());
                async move { etcd.put(key, words, Some(under)).await }
            })
            .await?;
        self.told = Some(words);
        Ok(Step::Proved(lease.proved))
    }

    fn forget(&mut self) {
        self.lease = None;
        self.told = None;
    }

    /// The lease takes with it what stands under it.
    async fn take_back(self) {
        let Some(lease) = self.lease else { return };
        match timeout(DEREGISTER_DEADLINE, lease.revoke(&self.etcd)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                tracing::debug!(target: "directory", "not deregistered, the lease will run out: {e}");
            }
            Err(_) => {
                tracing::debug!(target: "directory", "not deregistered in time, the lease will run out");
            }
        }
    }
}

/// A lease that etcd has granted to this node.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: i64,
    time: Duration,
    /// When the last question was sent by whose answer the lease had its full time.
    pub(super) proved: Instant,
}

impl Lease {
    pub(super) async fn grant(etcd: &Etcd) -> Result<Self, EtcdError> {
        let time = etcd.shared.settings.lease;
        // Rounded up: it must hold for at least as long as this node counts on it.
        let seconds = i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let sent = Instant::now();
        let granted =
            etcd.call(|mut etcd| async move { etcd.lease_grant(seconds, None).await }).await?;
        Ok(Self { id: granted.id(), time, proved: sent })
    }

    /// When it must be renewed.
    pub(super) fn due(&self) -> Instant {
        self.proved + self.time / 3
    }

    /// Until when it holds for sure.
    pub(super) fn until(&self) -> Instant {
        self.proved + self.time
    }

    /// One stream a renewal: so no late answer is taken for that of a later question.
    pub(super) async fn renew(&mut self, etcd: &Etcd) -> Result<(), EtcdError> {
        let sent = Instant::now();
        let id = self.id;
        etcd.call(|mut etcd| async move { etcd.lease_keep_alive(id).await }).await?;
        self.proved = sent;
        Ok(())
    }

    /// Waits until it is due, then renews it, however long etcd is away.
    ///
    /// # Errors
    /// `Lost` alone.
    ///
    /// # Cancel safety
    /// A renewal that is dropped is made again by the next call.
    pub(super) async fn renew_when_due(
        &mut self,
        etcd: &Etcd,
        patience: &mut Patience,
    ) -> Result<(), EtcdError> {
        sleep_until(self.due()).await;
        loop {
            match self.renew(etcd).await {
                Ok(()) => {
                    patience.fine();
                    return Ok(());
                }
                Err(EtcdError::Lost) => return Err(EtcdError::Lost),
                Err(e) => sleep(patience.failed(&e)).await,
            }
        }
    }

    pub(super) async fn revoke(&self, etcd: &Etcd) -> Result<(), EtcdError> {
        let id = self.id;
        match etcd.call(|mut etcd| async move { etcd.lease_revoke(id).await }).await {
            Ok(_) | Err(EtcdError::Lost) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
