//! Owns what this node sees of the others: a snapshot of etcd, then each change of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use etcd_client::{EventType, GetOptions, KeyValue, ResponseHeader, WatchOptions, WatchResponse};
use serde::Deserialize as _;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Etcd, EtcdError, Flag, Patience};
use crate::{
    directory::{NodeInfo, Nodes},
    limits::ETCD_ANSWER_BYTES_MAX,
    tasks::Tasks,
};

impl Etcd {
    /// Keeps `nodes` in step with etcd until the tasks stop. While etcd is away they stay as they
    /// were, and `synced` is false. Nobody else may write to `nodes`.
    pub(crate) async fn follow(
        self,
        nodes: Arc<watch::Sender<Nodes>>,
        synced: watch::Sender<bool>,
        tasks: Tasks,
    ) {
        let synced = Flag(synced);
        let mut patience = self.patience();
        let mut view = View::new(self.nodes_prefix());
        loop {
            let Err(ended) = select! {
                biased; // stop first: the watch itself never ends while all is well
                () = tasks.stopped() => return,
                ended = self.watch(&mut view, &nodes, &synced, &mut patience) => ended,
            };
            synced.set(false);
            let pause = match ended {
                EtcdError::Compacted => patience.pause(),
                e => patience.failed(&e),
            };
            select! {
                () = tasks.stopped() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One snapshot and the watch from there on.
    async fn watch(
        &self,
        view: &mut View,
        nodes: &watch::Sender<Nodes>,
        synced: &Flag,
        patience: &mut Patience,
    ) -> Result<Infallible, EtcdError> {
        let prefix = view.prefix.clone();
        let all = GetOptions::new().with_prefix();
        let snapshot = self
            .call(|etcd| {
                let mut kv = etcd.kv_client().max_decoding_message_size(ETCD_ANSWER_BYTES_MAX);
                let (prefix, all) = (prefix.clone(), all.clone());
                async move { kv.get(prefix, Some(all)).await }
            })
            .await?;
        let revision = snapshot.header().map_or(0, ResponseHeader::revision);
        view.replace(snapshot.kvs(), revision, self.shared.settings.lease);
        view.publish(nodes);

        let later = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut stream = self
            .call(|etcd| {
                let mut watch =
                    etcd.watch_client().max_decoding_message_size(ETCD_ANSWER_BYTES_MAX);
                let (prefix, later) = (prefix.clone(), later.clone());
                async move { watch.watch(prefix, Some(later)).await }
            })
            .await?;
        loop {
            let news = select! {
                news = stream.message() => news?,
                () = sleep_until(view.orphans_until), if !view.orphans.is_empty() => {
                    view.bury();
                    view.publish(nodes);
                    continue;
                }
            };
            let Some(news) = news else {
                return Err(EtcdError::Failed("the watch ended".to_owned()));
            };
            self.judge(&news).await?;
            if news.created() {
                patience.fine();
                synced.set(true);
            }
            view.apply(&news);
            view.publish(nodes);
        }
    }

    /// Whether the watch goes on after this.
    pub(super) async fn judge(&self, news: &WatchResponse) -> Result<(), EtcdError> {
        if news.compact_revision() != 0 {
            return Err(EtcdError::Compacted);
        }
        if news.canceled() {
            // A watch without a valid token is opened, and then cancelled.
            self.sign_in_anew().await;
            let why = news.cancel_reason();
            let why = if why.is_empty() { "the watch was refused" } else { why };
            return Err(EtcdError::Failed(why.to_owned()));
        }
        Ok(())
    }
}

/// The nodes as etcd has them, by id.
struct View {
    prefix: String,
    nodes: BTreeMap<String, Arc<NodeInfo>>,
    /// Ids whose words were told as unreadable and are so still.
    unreadable: BTreeSet<String>,
    /// What etcd had reached when it was last heard of.
    revision: i64,
    /// Nodes that an etcd without its memory does not know, and how long they have to register
    /// there again.
    orphans: BTreeSet<String>,
    orphans_until: Instant,
}

impl View {
    fn new(prefix: String) -> Self {
        Self {
            prefix,
            nodes: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            revision: 0,
            orphans: BTreeSet::new(),
            orphans_until: Instant::now(),
        }
    }

    fn replace(&mut self, all: &[KeyValue], revision: i64, lease: Duration) {
        let ids: BTreeSet<String> = all.iter().map(|kv| self.id(kv)).collect();
        if revision < self.revision {
            tracing::warn!(target: "directory", "etcd has lost what it knew: nodes have time to register again");
        }
        // etcd was away, wiped, or put back to an older state: leases may have run out because
        // nobody could renew them. That it does not know a node says nothing of the node, which
        // comes again within its lease if it lives.
        let missing: BTreeSet<_> =
            self.nodes.keys().filter(|id| !ids.contains(*id)).cloned().collect();
        if !missing.is_empty() {
            self.orphans = missing;
            self.orphans_until = Instant::now() + lease;
        }
        self.revision = revision;
        self.orphans.retain(|id| !ids.contains(id));
        self.nodes.retain(|id, _| ids.contains(id) || self.orphans.contains(id));
        self.unreadable.retain(|id| ids.contains(id));
        all.iter().for_each(|kv| self.put(kv));
    }

    fn apply(&mut self, news: &WatchResponse) {
        self.revision = news.header().map_or(self.revision, ResponseHeader::revision);
        for event in news.events() {
            let Some(kv) = event.kv() else { continue };
            let known_again = self.id(kv);
            self.orphans.remove(&known_again);
            match event.event_type() {
                EventType::Put => self.put(kv),
                EventType::Delete => {
                    let id = self.id(kv);
                    self.nodes.remove(&id);
                    self.unreadable.remove(&id);
                }
            }
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        let id = self.id(kv);
        match read(&id, kv.value()) {
            Ok(info) => {
                self.unreadable.remove(&id);
                // The same words again leave the node the same, so that nobody is woken for it.
                if self.nodes.get(&id).is_none_or(|known| **known != info) {
                    self.nodes.insert(id, Arc::new(info));
                }
            }
            Err(why) => {
                self.nodes.remove(&id);
                let key = format!("{}{id}", self.prefix);
                if self.unreadable.insert(id) {
                    tracing::warn!(target: "directory", key, "this key of etcd is no node and is passed over: {why}");
                }
            }
        }
    }

    /// Forgets those who did not come again.
    fn bury(&mut self) {
        for id in std::mem::take(&mut self.orphans) {
            self.nodes.remove(&id);
        }
    }

    /// Tells those who watch, if there is anything to tell.
    fn publish(&self, nodes: &watch::Sender<Nodes>) {
        nodes.send_if_modified(|told| {
            let changed = !self.nodes.values().eq(told.iter());
            if changed {
                *told = Arc::new(self.nodes.values().cloned().collect());
            }
            changed
        });
    }

    /// What follows the prefix; the key as a whole names the node, whatever its words say.
    fn id(&self, kv: &KeyValue) -> String {
        let key = String::from_utf8_lossy(kv.key());
        key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned()
    }
}

fn read(id: &str, words: &[u8]) -> Result<NodeInfo, String> {
    if id.is_empty() || id.contains('/') {
        return Err("its name is not a node's".to_owned());
    }
    // As a map first: serde would also read a list as the fields in their order.
    let words: serde_json::Map<_, _> = serde_json::from_slice(words).map_err(|e| e.to_string())?;
    let info =
        NodeInfo::deserialize(serde_json::Value::Object(words)).map_err(|e| e.to_string())?;
    Ok(NodeInfo { id: id.to_owned(), ..info })
}
