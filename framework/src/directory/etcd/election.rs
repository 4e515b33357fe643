//! Owns who of several nodes leads: an election of etcd, and the certainty of having won it.

use std::{convert::Infallible, pin::pin};

use etcd_client::{EventType, GetOptions, WatchFilterType, WatchOptions};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Etcd, EtcdError, Flag, Patience, lease::Lease};
use crate::{
    limits::{DEREGISTER_DEADLINE, ETCD_DEADLINE},
    tasks::Tasks,
};

impl Etcd {
    /// Takes part in the election `name` as `me` until the tasks stop, then resigns.
    ///
    /// `leading` is true while this node is the leader for sure: its key stands, and the lease
    /// under it was proved less than its own length ago. A process that was frozen finds out
    /// when it wakes: what the leader writes elsewhere must be fenced there.
    pub(crate) async fn elect(
        self,
        name: &str,
        me: &str,
        leading: watch::Sender<bool>,
        tasks: Tasks,
    ) {
        let mut patience = self.patience();
        // A campaign is one question that is answered when it is won, and has no deadline: it
        // has a connection to itself.
        let Ok(etcd) = self.apart().await else { return };
        let mut candidate = Candidate {
            seat: etcd.election_key(name),
            etcd,
            me: me.to_owned(),
            lease: None,
            leading: Flag(leading),
        };
        loop {
            let ended = select! {
                biased; // stop first: it must not wait for etcd
                () = tasks.stopped() => break,
                Err(ended) = candidate.stand(&mut patience) => ended,
            };
            candidate.lead(false);
            let pause = match ended {
                EtcdError::Lost => {
                    candidate.lease = None;
                    patience.pause()
                }
                e => patience.failed(&e),
            };
            select! {
                () = tasks.stopped() => break,
                () = sleep(pause) => {}
            }
        }
        candidate.resign().await;
    }
}

/// A node that stands for one seat.
struct Candidate {
    etcd: Etcd,
    /// The name of the election in etcd.
    seat: String,
    me: String,
    /// Kept from one attempt to the next while etcd knows it, and with it the place in the line.
    lease: Option<Lease>,
    leading: Flag,
}

impl Candidate {
    fn lead(&self, certain: bool) {
        if self.leading.set(certain) {
            tracing::info!(target: "directory", seat = self.seat, leading = certain, "election");
        }
    }

    /// Waits in the line, leads, and ends with why it leads no longer.
    async fn stand(&mut self, patience: &mut Patience) -> Result<Infallible, EtcdError> {
        let etcd = self.etcd.clone();
        if self.lease.is_none() {
            self.lease = Some(Lease::grant(&etcd).await?);
        }
        let key = self.campaign(patience).await?;
        patience.fine();
        // A campaign is also won by who lost its lease in the line, since those before it have
        // gone; so the key itself is looked at before anything is claimed.
        let seen = look(&etcd, &key).await?.ok_or(EtcdError::Lost)?;
        let mut gone = pin!(gone(&etcd, &key, seen));
        loop {
            let until = self.lease.as_ref().map_or_else(Instant::now, Lease::until);
            let certain = Instant::now() < until;
            self.lead(certain);
            let Some(lease) = &mut self.lease else { return Err(EtcdError::Lost) };
            select! {
                // The two that end the certainty first, so that nothing outlives it; the renewal
                // is not starved, since each of them is ready but once.
                biased;
                () = sleep_until(until), if certain => {}
                () = &mut gone => return Err(EtcdError::Lost),
                renewed = lease.renew_when_due(&etcd, patience) => renewed?,
            }
        }
    }

    /// Waits in the line until the seat is won; the key that stands for it.
    async fn campaign(&mut self, patience: &mut Patience) -> Result<Vec<u8>, EtcdError> {
        let Self { etcd, seat, me, lease, leading: _ } = self;
        let Some(lease) = lease else { return Err(EtcdError::Lost) };
        let (n, server) = etcd.connection.server();
        let signed_in = timeout(ETCD_DEADLINE, etcd.sign_in(server)).await;
        signed_in.map_err(|_| EtcdError::TimedOut)??;
        let mut client = server.client.clone();
        let mut won = pin!(client.campaign(seat.as_str(), me.as_str(), lease.id));
        let won = loop {
            select! {
                won = &mut won => break won,
                renewed = lease.renew_when_due(etcd, patience) => renewed?,
            }
        };
        match won {
            Ok(won) => won.leader().map(|l| l.key().to_vec()).ok_or(EtcdError::Lost),
            Err(e) => {
                etcd.connection.leave(n);
                etcd.sign_in_anew().await;
                Err(e.into())
            }
        }
    }

    /// The next in the line leads at once, rather than when the lease has run out.
    async fn resign(self) {
        self.lead(false);
        let Self { etcd, seat: _, me: _, lease, leading: _ } = self;
        let Some(lease) = lease else { return };
        if timeout(DEREGISTER_DEADLINE, lease.revoke(&etcd)).await.is_err() {
            tracing::debug!(target: "directory", "not resigned in time, the lease will run out");
        }
    }
}

/// The revision at which the key was seen to stand, if it does.
async fn look(etcd: &Etcd, key: &[u8]) -> Result<Option<i64>, EtcdError> {
    let seen = etcd.call(|mut etcd| {
        let (key, options) = (key.to_vec(), GetOptions::new().with_keys_only());
        async move { etcd.get(key, Some(options)).await }
    });
    let seen = seen.await?;
    let revision = seen.header().map_or(0, etcd_client::ResponseHeader::revision);
    Ok((seen.count() > 0).then_some(revision))
}

/// Resolves once etcd says that the key is gone. While etcd is away it says nothing.
async fn gone(etcd: &Etcd, key: &[u8], mut seen: i64) {
    let mut patience = etcd.patience();
    loop {
        if until_deleted(etcd, key, seen).await.is_ok() {
            return;
        }
        // That etcd is away is said by who renews the lease.
        sleep(patience.pause()).await;
        match look(etcd, key).await {
            Ok(None) => return,
            Ok(Some(revision)) => {
                patience.fine();
                seen = revision;
            }
            Err(_) => {}
        }
    }
}

async fn until_deleted(etcd: &Etcd, key: &[u8], seen: i64) -> Result<(), EtcdError> {
    let options =
        WatchOptions::new().with_start_revision(seen + 1).with_filters([WatchFilterType::NoPut]);
    let stream = etcd.call(|mut etcd| {
        let (key, options) = (key.to_vec(), options.clone());
        async move { etcd.watch(key, Some(options)).await }
    });
    let mut stream = stream.await?;
    while let Some(news) = stream.message().await? {
        etcd.judge(&news).await?;
        if news.events().iter().any(|e| e.event_type() == EventType::Delete) {
            return Ok(());
        }
    }
    Err(EtcdError::Failed("the watch ended".to_owned()))
}
