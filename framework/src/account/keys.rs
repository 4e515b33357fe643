//! Owns which key signs tokens, and when the next one does: it is published first, signs once
//! every gate knows it, and stays published until its last token has run out. Several account
//! centers read the same rows, so that they agree. Leaves what a token says to `tokens`.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use super::{
    center::{AccountCenter, AccountSettings, Inner, StartError},
    credentials::CREDENTIAL_TTL,
    tokens::{Claims, Subject, TokenError, TokenIssuer, TokenVerifier, new_signing_key},
};
use crate::{
    clock::Clock,
    directory::{Directory, Jwk},
    limits::{KEY_LEAD, KEYS_READ, SIGNING_KEYS_MAX},
    proto::admin as proto,
    store::{SigningKey, Store, StoreError},
    tasks::Tasks,
    wire::{Code, Refusal},
};

/// A key signs here only when discovery has shown it for so long: whatever the rows and the clocks
/// of other centers say, the gates know it.
const SHOWN_MS: i64 = 5_000;

/// How much longer than its last token a key is published: clocks differ.
const OVER_MS: i64 = 60_000;

/// How often what has run out is swept.
const SWEEP_MS: i64 = 3600 * 1000;

/// How long a sign-in that has run out is still known as one, so that its client hears 2002.
const RUN_OUT_KNOWN_MS: i64 = 24 * 3600 * 1000;

/// The keys of one cluster, as this center knows them.
pub(super) struct Keys {
    store: Store,
    clock: Clock,
    cluster: String,
    token_ttl: Duration,
    key_ttl_ms: i64,
    /// Std lock: held to clone the reference.
    held: RwLock<Arc<Held>>,
    /// One was made: the others are told now and not with the next look.
    made: Notify,
}

struct Held {
    /// Oldest first; from [`Keys::open`] on never empty.
    keys: Vec<Key>,
    /// The place of the one that signs.
    signs: usize,
    verifier: TokenVerifier,
}

#[derive(Clone)]
struct Key {
    seq: i64,
    signs_from_ms: i64,
    issuer: Arc<TokenIssuer>,
    /// Since when discovery shows it.
    shown_ms: Option<i64>,
}

impl Keys {
    /// Makes the first key on the very first start.
    pub(super) async fn open(
        store: Store,
        clock: Clock,
        settings: &AccountSettings,
    ) -> Result<Self, StartError> {
        let keys = Self {
            store,
            clock,
            cluster: settings.cluster.clone(),
            token_ttl: settings.token_ttl,
            key_ttl_ms: ms(settings.key_ttl),
            held: RwLock::new(Arc::new(Held::none(&settings.cluster))),
            made: Notify::new(),
        };
        keys.renew(|_| false).await?;
        if keys.held().keys.is_empty() {
            let why = "it does not show the signing key that was just added";
            return Err(StoreError::Unavailable(why.to_owned()).into());
        }
        Ok(keys)
    }

    /// A token, and what it says.
    pub(super) fn issue(&self, subject: &Subject<'_>, now_ms: i64) -> (String, Claims) {
        let held = self.held();
        held.keys[held.signs].issuer.issue(subject, now_ms)
    }

    /// What a token says, if it is ours and not too old. Whether its sign-in has ended it does
    /// not say.
    pub(super) fn verify(&self, token: &str, now_ms: i64) -> Result<Claims, TokenError> {
        self.held().verifier.verify(token, now_ms)
    }

    /// The same for a token of any role.
    pub(super) fn verify_any(&self, token: &str, now_ms: i64) -> Result<Claims, TokenError> {
        self.held().verifier.verify_any(token, now_ms)
    }

    /// The public halves, oldest first.
    pub(super) fn jwks(&self) -> Vec<Jwk> {
        self.held().keys.iter().map(|key| key.issuer.jwk()).collect()
    }

    /// How long an access token lives, in seconds.
    pub(super) fn ttl_secs(&self) -> i64 {
        self.held().keys.first().map_or(0, |key| key.issuer.ttl_secs())
    }

    /// How long a token of a sign-in may be good: marks are kept for so long.
    pub(super) fn token_ttl_max(&self) -> Duration {
        self.token_ttl.max(CREDENTIAL_TTL)
    }

    /// Reads the rows anew, makes the next key when it is time, forgets those that are over, and
    /// lets the next one sign when the gates know it; `shown` says what discovery shows of this
    /// node.
    pub(super) async fn renew(&self, shown: impl Fn(&Jwk) -> bool) -> Result<(), StartError> {
        let now_ms = self.clock.now_ms();
        let mut rows = self.store.signing_keys().await?;
        let due = |last: &SigningKey| now_ms >= last.made_ms.saturating_add(self.key_ttl_ms);
        if rows.last().is_none_or(due) && rows.len() < SIGNING_KEYS_MAX {
            self.make(&rows, now_ms).await?;
            rows = self.store.signing_keys().await?;
        }
        let mut kept = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            let next = rows.get(n + 1).map(|next| next.signs_from_ms);
            let over =
                |from: i64| from.saturating_add(ms(self.token_ttl_max()) + OVER_MS) <= now_ms;
            if next.is_some_and(over) {
                self.store.forget_signing_key(row.seq).await?;
            } else {
                kept.push(row);
            }
        }
        self.take(&kept, shown, now_ms)
    }

    /// Makes the next key at once.
    async fn rotate(&self) -> Result<SigningKey, Refusal> {
        let now_ms = self.clock.now_ms();
        let away = |_| Refusal::from(Code::NOT_READY);
        let rows = self.store.signing_keys().await.map_err(away)?;
        if rows.len() >= SIGNING_KEYS_MAX {
            let why = format!(
                "{SIGNING_KEYS_MAX} keys are published: wait until the tokens of the oldest have run out"
            );
            return Err(Code::BUSY.because(why));
        }
        if let Some(coming) = rows.last().filter(|last| last.signs_from_ms > now_ms) {
            return Ok(coming.clone());
        }
        self.make(&rows, now_ms).await.map_err(away)?;
        self.made.notify_one();
        // Whoever was the first, it is the next key.
        let rows = self.store.signing_keys().await.map_err(away)?;
        rows.last().cloned().ok_or_else(|| Code::INTERNAL.into())
    }

    /// Adds the key after those rows, unless another center has just done so.
    async fn make(&self, rows: &[SigningKey], now_ms: i64) -> Result<(), StoreError> {
        // Nobody has a token of before the first one.
        let (seq, lead_ms) = rows.last().map_or((1, 0), |last| (last.seq + 1, ms(KEY_LEAD)));
        let data = new_signing_key();
        let key = SigningKey { seq, data, made_ms: now_ms, signs_from_ms: now_ms + lead_ms };
        if self.store.add_signing_key(key).await? {
            tracing::info!(target: "account", seq, "a new key to sign tokens with");
        }
        Ok(())
    }

    fn take(
        &self,
        rows: &[&SigningKey],
        shown: impl Fn(&Jwk) -> bool,
        now_ms: i64,
    ) -> Result<(), StartError> {
        let before = self.held();
        let signed = before.keys.get(before.signs);
        let mut keys: Vec<Key> = Vec::new();
        // Another center may have forgotten the one that still signs here, because discovery does
        // not show the next one.
        let still = signed.filter(|key| rows.iter().all(|row| row.seq > key.seq));
        keys.extend(still.cloned());
        for row in rows {
            let known = before.keys.iter().find(|key| key.seq == row.seq);
            let issuer = match known {
                Some(known) => known.issuer.clone(),
                None => self.issuer(row)?,
            };
            let since = known.and_then(|known| known.shown_ms);
            let shown_ms = shown(&issuer.jwk()).then(|| since.unwrap_or(now_ms));
            keys.push(Key { seq: row.seq, signs_from_ms: row.signs_from_ms, issuer, shown_ms });
        }
        let ready = |key: &Key| {
            let due = key.signs_from_ms <= now_ms;
            match signed {
                Some(signed) if signed.seq == key.seq => true,
                Some(signed) => {
                    let known = key.shown_ms.is_some_and(|since| now_ms - since >= SHOWN_MS);
                    key.seq > signed.seq && due && known
                }
                // At the start: whoever was told of this center was told of its keys.
                None => due,
            }
        };
        let signs = keys.iter().rposition(ready).unwrap_or(0);
        if keys.is_empty() {
            return Ok(());
        }
        if signed.is_some_and(|signed| signed.seq != keys[signs].seq) {
            let kid = keys[signs].issuer.jwk().kid;
            tracing::info!(target: "account", kid, "the next key signs");
        }
        let jwks: Vec<Jwk> = keys.iter().map(|key| key.issuer.jwk()).collect();
        let verifier = TokenVerifier::new(&jwks, &self.cluster);
        let held = Arc::new(Held { keys, signs, verifier });
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    fn issuer(&self, row: &SigningKey) -> Result<Arc<TokenIssuer>, StartError> {
        let issuer = TokenIssuer::new(&row.data, &self.cluster, self.token_ttl);
        issuer.map(Arc::new).map_err(|source| StartError::Key { seq: row.seq, source })
    }

    fn held(&self) -> Arc<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Held {
    fn none(cluster: &str) -> Self {
        Self { keys: Vec::new(), signs: 0, verifier: TokenVerifier::new(&[], cluster) }
    }
}

impl AccountCenter {
    /// Makes a new key to sign tokens with, whatever the age of the one before.
    pub(crate) async fn rotate_key(
        self,
        _: proto::rotate_key::Req,
    ) -> Result<proto::rotate_key::Res, Refusal> {
        let keys = &self.0.keys;
        let next = keys.rotate().await?;
        let issuer = keys.issuer(&next).map_err(|_damaged| Code::INTERNAL)?;
        Ok(proto::rotate_key::Res { kid: issuer.jwk().kid, signs_from_ms: next.signs_from_ms })
    }

    /// Keeps the keys and tells discovery of them, and forgets sign-ins that have run out, until
    /// the tasks stop.
    pub(crate) async fn keep(self, directory: Directory, tasks: Tasks) {
        let mut swept_ms = i64::MIN;
        loop {
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                () = self.0.keys.made.notified() => {}
                () = sleep(KEYS_READ) => {}
            }
            let told = directory.node(directory.me());
            let shown = |jwk: &Jwk| told.as_ref().is_some_and(|node| node.keys.contains(jwk));
            match self.0.keys.renew(shown).await {
                Ok(()) => {}
                // The store has said so itself.
                Err(StartError::Store(_)) => continue,
                Err(error) => tracing::error!(target: "account", %error, "keys are not renewed"),
            }
            let keys = self.jwks();
            if told.as_ref().is_some_and(|node| node.keys != keys) {
                directory.update(|node| node.keys = keys);
            }
            let now_ms = self.0.clock.now_ms();
            if now_ms.saturating_sub(swept_ms) >= SWEEP_MS {
                let more = self.0.sweep_sign_ins(now_ms).await;
                swept_ms = if more.unwrap_or(true) { swept_ms } else { now_ms };
            }
        }
    }
}

impl Inner {
    /// Forgets sign-ins that nobody asks for any more: those that ran out, and those that ended
    /// when the last of their tokens has run out. Whether there may be more of them.
    async fn sweep_sign_ins(&self, now_ms: i64) -> Result<bool, StoreError> {
        let ttl_ms = self.keys.ttl_secs().saturating_mul(1000);
        self.store.sweep_sign_ins(now_ms - RUN_OUT_KNOWN_MS, now_ms.saturating_sub(ttl_ms)).await
    }
}

impl fmt::Debug for Keys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        let kids: Vec<_> = held.keys.iter().map(|key| key.issuer.jwk().kid).collect();
        f.debug_struct("Keys")
            .field("kids", &kids)
            .field("signs", &held.signs)
            .finish_non_exhaustive()
    }
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::world::World, *};

    const KEY_TTL_MS: i64 = 30 * 24 * 3600 * 1000;
    const DAY_MS: i64 = 24 * 3600 * 1000;

    /// The key that the next token is signed with.
    fn signs(w: &World) -> String {
        let token = w.center.0.keys.issue(&Subject::player(1, "a"), w.clock.now_ms()).0;
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    }

    fn published(w: &World) -> Vec<String> {
        w.center.jwks().into_iter().map(|jwk| jwk.kid).collect()
    }

    /// As the loop does; discovery shows the keys or not.
    async fn renew(w: &World, shown: bool) {
        w.center.0.keys.renew(|_| shown).await.unwrap();
    }

    async fn rotate(w: &World) -> Result<String, Code> {
        let res = w.center.clone().rotate_key(proto::rotate_key::Req {}).await;
        let res = res.map_err(|refusal| refusal.code)?;
        assert_eq!(res.signs_from_ms - w.clock.now_ms(), ms(KEY_LEAD));
        Ok(res.kid)
    }

    fn later(w: &World, ms: i64) {
        w.clock.set(w.clock.now_ms() + ms);
    }

    #[tokio::test]
    async fn a_key_is_published_before_it_signs_and_until_its_last_token_has_run_out() {
        for w in World::both().await {
            let old = signs(&w);
            assert_eq!(published(&w), vec![old.clone()]);
            later(&w, KEY_TTL_MS - 1);
            renew(&w, true).await;
            assert_eq!(published(&w), vec![old.clone()]);
            later(&w, 1);
            renew(&w, true).await;
            let both = published(&w);
            let new = both[1].clone();
            assert_eq!((both.len(), &both[0], signs(&w)), (2, &old, old.clone()));
            later(&w, ms(KEY_LEAD) - 1);
            renew(&w, true).await;
            assert_eq!(signs(&w), old);
            let last = w.center.0.keys.issue(&Subject::player(1, "a"), w.clock.now_ms()).0;
            later(&w, 1);
            renew(&w, true).await;
            assert_eq!((signs(&w), published(&w)), (new.clone(), both));
            let good = |token: &str| w.center.0.keys.verify(token, w.clock.now_ms()).is_ok();
            assert!(good(&last), "what the old one signed");
            later(&w, DAY_MS + OVER_MS - 1);
            renew(&w, true).await;
            assert_eq!(published(&w).len(), 2, "credentials are good for a day");
            later(&w, 1);
            renew(&w, true).await;
            assert_eq!((published(&w), signs(&w)), (vec![new.clone()], new));
        }
    }

    #[tokio::test]
    async fn a_key_that_discovery_does_not_show_does_not_sign_and_the_one_before_stays() {
        let w = World::new().await;
        let old = signs(&w);
        let new = rotate(&w).await.unwrap();
        for _ in 0..4 {
            later(&w, DAY_MS);
            renew(&w, false).await;
            assert_eq!(signs(&w), old);
            assert_eq!(published(&w), vec![old.clone(), new.clone()]);
        }
        renew(&w, true).await;
        later(&w, SHOWN_MS - 1);
        renew(&w, true).await;
        assert_eq!(signs(&w), old, "not before it was shown for long enough");
        later(&w, 1);
        renew(&w, true).await;
        assert_eq!(signs(&w), new);
    }

    #[tokio::test]
    async fn two_centers_agree_on_the_next_key_and_each_takes_the_others_tokens() {
        let [_, one] = World::both().await;
        let other = one.beside().await;
        assert_eq!(published(&one), published(&other));
        let (a, b) = tokio::join!(rotate(&one), rotate(&other));
        assert_eq!(a, b);
        for w in [&one, &other] {
            renew(w, true).await;
        }
        assert_eq!(published(&one), published(&other));
        assert_eq!(published(&one).len(), 2);
        later(&one, ms(KEY_LEAD));
        renew(&one, true).await;
        assert_ne!(signs(&one), signs(&other), "one was a moment slower");
        for (signer, checker) in [(&one, &other), (&other, &one)] {
            let (token, claims) = signer.center.0.keys.issue(&Subject::player(1, "a"), 1_000_000);
            assert_eq!(checker.center.0.keys.verify(&token, 1_000_000), Ok(claims));
        }
        renew(&other, true).await;
        later(&one, KEY_TTL_MS);
        tokio::join!(renew(&one, true), renew(&other, true));
        renew(&one, true).await;
        assert_eq!(published(&one).len(), 2, "the third key, and the second");
        assert_eq!(published(&one), published(&other));
    }

    #[tokio::test]
    async fn a_restart_changes_nothing() {
        let w = World::new().await;
        let old = signs(&w);
        let new = rotate(&w).await.unwrap();
        let w = w.restart().await;
        assert_eq!((signs(&w), published(&w)), (old.clone(), vec![old.clone(), new.clone()]));
        later(&w, ms(KEY_LEAD));
        let w = w.restart().await;
        assert_eq!((signs(&w), published(&w)), (new.clone(), vec![old, new]));
    }

    #[tokio::test]
    async fn asked_again_a_coming_key_is_told_and_there_are_never_too_many() {
        let w = World::new().await;
        let next = rotate(&w).await.unwrap();
        assert_eq!(rotate(&w).await, Ok(next));
        for _ in 2..SIGNING_KEYS_MAX {
            later(&w, ms(KEY_LEAD));
            rotate(&w).await.unwrap();
        }
        later(&w, ms(KEY_LEAD));
        assert_eq!(rotate(&w).await, Err(Code::BUSY));
        renew(&w, true).await;
        assert_eq!(published(&w).len(), SIGNING_KEYS_MAX);
        assert!(!format!("{:?}", w.center).contains("data"));
    }

    #[tokio::test]
    async fn a_damaged_key_is_told_at_the_start() {
        let w = World::new().await;
        let (data, made_ms) = (b"nonsense".to_vec(), 1_000_000);
        let key = SigningKey { seq: 2, data, made_ms, signs_from_ms: 0 };
        assert!(w.store.add_signing_key(key.clone()).await.unwrap());
        assert!(!w.store.add_signing_key(key).await.unwrap(), "the first one counts");
        let said = w.center.0.keys.renew(|_| true).await.unwrap_err().to_string();
        assert!(
            said.contains("row 2 of table `signing_keys`") && said.contains("delete"),
            "{said}"
        );
    }
}
