//! Owns the way from a session to its player: the node that runs it, or the one that shall.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    directory::{Directory, NodeInfo},
    entity::{EntityId, Host, PLAYER},
    limits::{ATTACH_PATIENCE, ATTACH_RETRY},
    link::{Arrival, Attached, EntityPort, Entry, Links, NotAttached, Seeking, SessionPort},
    wire::{Code, Refusal},
};

/// Every player of the cluster, as a gate sees them.
#[derive(Clone, Debug)]
pub(crate) struct Players {
    /// This node's own game server, when it has one.
    pub(crate) here: Option<Arc<Host>>,
    /// To the others, when there are others.
    pub(crate) links: Option<Links>,
    pub(crate) directory: Directory,
}

impl Players {
    /// Brings a session to its player: where it runs, else to the least loaded node that is up.
    ///
    /// A node that goes away, or has just gone, is waited for up to [`ATTACH_PATIENCE`]: its
    /// players are free, or may be taken over, soon.
    ///
    /// `good` is asked in the same round trip in which the player is looked for; when it refuses,
    /// nobody is woken.
    ///
    /// # Errors
    /// That of `good`; a [`Refusal`] for the client: 101 no game server, or a service is away; 1001 the player's
    /// node is gone and still has its claim; 1002 busy; 2003 the record is unreadable;
    /// 2004 there is no session to go on with.
    pub(crate) async fn attach(
        &self,
        seeking: &Seeking,
        good: impl Future<Output = Result<(), Refusal>>,
    ) -> Result<(EntityPort, Attached), Refusal> {
        let key = seeking.account.to_string().into();
        let player = EntityId { kind: PLAYER, key }.to_string();
        let patient_until = Instant::now() + ATTACH_PATIENCE;
        let mut pause = ATTACH_RETRY.0;
        let (mut not, mut hint, mut last) = (Vec::new(), None::<String>, None);
        let (good, first) = tokio::join!(good, self.directory.place(&player, &not));
        good?;
        let mut first = Some(first);
        loop {
            let found = match hint.take().and_then(|id| self.directory.node(&id)) {
                Some(node) => Ok(node),
                None => match first.take() {
                    Some(found) => found,
                    None => self.directory.place(&player, &not).await,
                },
            };
            let refusal = match found {
                Err(refusal) => refusal,
                Ok(node) => match self.attach_at(&node, seeking, patient_until).await {
                    Ok(attached) => return Ok(attached),
                    Err(NotAttached::Elsewhere(other)) if !not.contains(&other) => {
                        not.push(node.id.clone());
                        hint = Some(other);
                        continue;
                    }
                    Err(NotAttached::Elsewhere(_)) => Code::NOT_CONNECTED.into(),
                    Err(NotAttached::Refused(refusal))
                        if seeking.may_pass(refusal.code) && Instant::now() < patient_until =>
                    {
                        // Another node may do it at once.
                        last = Some(refusal);
                        not.push(node.id.clone());
                        continue;
                    }
                    Err(NotAttached::Refused(refusal)) => return Err(refusal),
                },
            };
            // What a node said is more than that there is no other.
            let refusal = last.take().unwrap_or(refusal);
            let passes =
                matches!(refusal.code, Code::DRAINING | Code::NOT_CONNECTED) || seeking.has_moved();
            if !passes || self.links.is_none() || Instant::now() + pause > patient_until {
                return Err(refusal);
            }
            sleep(pause).await;
            pause = (pause * 2).min(ATTACH_RETRY.1);
            not.clear();
        }
    }

    async fn attach_at(
        &self,
        node: &NodeInfo,
        seeking: &Seeking,
        deadline: Instant,
    ) -> Result<(EntityPort, Attached), NotAttached> {
        if node.id == self.directory.me() {
            let Seeking { connection, account, end, entry, datagram_bytes_max } = seeking;
            let host = self.here.as_ref().ok_or(Refusal::from(Code::NOT_READY))?;
            let arrival = Arrival {
                connection: *connection,
                account: *account,
                port: SessionPort::Local(end.clone()),
                entry: entry.clone(),
                datagram_bytes_max: *datagram_bytes_max,
            };
            let (mailbox, attached) = host.attach(arrival).await?;
            return Ok((EntityPort::Local(mailbox), attached));
        }
        let links = self.links.as_ref().ok_or(Refusal::from(Code::NOT_CONNECTED))?;
        let deadline = deadline.max(Instant::now() + LAST_TRY);
        links.attach(node, seeking, deadline).await
    }
}

impl Seeking {
    /// Whether a refusal is of the node that was asked, or of the moment: a node that goes away
    /// frees its players, the claims of one that is dead can be taken over when its lease is over,
    /// one that has lost touch with a service is not the only one.
    fn may_pass(&self, code: Code) -> bool {
        matches!(code, Code::DRAINING | Code::NOT_CONNECTED | Code::NOT_READY)
            || (self.has_moved() && code == Code::BUSY)
    }

    /// Whether its player was with another node.
    fn has_moved(&self) -> bool {
        matches!(self.entry, Entry::Moved { .. })
    }
}

/// What a try that begins at the end of the patience has all the same.
const LAST_TRY: Duration = Duration::from_secs(1);
