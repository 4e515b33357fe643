//! Owns which node of a cluster runs which entity: leases, claims and their epochs, in Redis.
//! Leaves which nodes there are to discovery, and what a claim is good for to the entity host.
//!
//! Each step is one script, and each may be run twice with the same owner as outcome: after an error the
//! caller does not know whether it was done, and asks again. What Redis loses, its owners say
//! again; what is granted meanwhile by mistake the store refuses, since epochs only grow.

#[cfg(test)]
mod tests;

use std::{sync::LazyLock, time::Duration};

use crate::{
    limits::{CLAIMS_PER_SCRIPT_MAX, DEAD_INCARNATION_KEPT, SETTLING_GRACE},
    store::{CacheError, Cmd, Redis, Script},
};

/// Who runs an entity: one start of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Letters, digits, dashes and dots: a colon ends it.
    pub(crate) node: String,
    pub(crate) incarnation: i64,
}

/// The claims of one cluster. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct RedisClaims {
    redis: Redis,
    /// How long an owner counts as alive after it spoke last.
    lease: Duration,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// Ours now.
    Granted { epoch: i64 },
    /// Another node runs it.
    Held(Owner),
    /// Redis lost its data not long ago: owners say again first what they own.
    Settling,
    /// Somebody took over from this incarnation: it must stop everything and get a new one.
    Dead,
}

/// What came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The lease runs anew. Another generation than before: Redis lost its data meanwhile, and
    /// what this node owns must be reasserted.
    Alive { generation: String },
    /// Somebody took over from this incarnation: it must stop everything and get a new one.
    Dead,
}

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(include_str!("claims/prelude.lua"), include_str!($file)))
        })
    };
}

static CLAIM: LazyLock<Script> = script!("claims/claim.lua");
static RELEASE: LazyLock<Script> = script!("claims/release.lua");
static RENEW: LazyLock<Script> = script!("claims/renew.lua");
static REASSERT: LazyLock<Script> = script!("claims/reassert.lua");
static FORGET: LazyLock<Script> = script!("claims/forget.lua");

impl RedisClaims {
    pub(crate) fn new(redis: Redis, lease: Duration) -> Self {
        Self { redis, lease }
    }

    /// The owner, if any.
    pub(crate) async fn locate(&self, entity: &str) -> Result<Option<Owner>, CacheError> {
        let get = Cmd::new().arg("GET").arg(self.redis.key(&claim_name(entity))).take();
        let claim: Option<String> = self.redis.command(get).await?;
        claim.map(|claim| Owner::parse(claim.split_once(' ').map_or("", |c| c.1))).transpose()
    }

    /// Whether an owner has spoken within its lease.
    pub(crate) async fn lives(&self, owner: &Owner) -> Result<bool, CacheError> {
        let lease = self.redis.key(&owner.lease_name());
        self.redis.command(Cmd::new().arg("EXISTS").arg(lease).take()).await
    }

    /// Claims a free entity, or one that is ours already, each time under a new epoch: above
    /// `floor`, under which the entity was written last, and above all before.
    pub(crate) async fn claim(
        &self,
        entity: &str,
        me: &Owner,
        floor: i64,
    ) -> Result<Claimed, CacheError> {
        let asked = self.ask(me).key(claim_name(entity)).arg(entity).arg(floor);
        Claimed::parse(&asked.run(&CLAIM).await?)
    }

    /// Takes an entity over from an owner that discovery no longer has. Refused (`Held`) while
    /// that owner's lease lives, or when the claim has changed hands meanwhile; granted like a
    /// claim when it is free by now. The first take-over marks that incarnation dead for good.
    pub(crate) async fn take_over(
        &self,
        entity: &str,
        from: &Owner,
        me: &Owner,
        floor: i64,
    ) -> Result<Claimed, CacheError> {
        let asked = self.ask(me).key(claim_name(entity)).owner_keys(from);
        let asked = asked.arg(entity).arg(floor).arg(from.tag());
        Claimed::parse(&asked.run(&CLAIM).await?)
    }

    /// Gives an entity up, if it is still ours under that epoch.
    pub(crate) async fn release(
        &self,
        entity: &str,
        me: &Owner,
        epoch: i64,
    ) -> Result<(), CacheError> {
        let asked = self.ask(me).key(claim_name(entity)).arg(entity).arg(epoch);
        asked.run(&RELEASE).await.map(drop)
    }

    /// Renews this node's lease.
    pub(crate) async fn renew(&self, me: &Owner) -> Result<Renewed, CacheError> {
        let mut answer = self.ask(me).run(&RENEW).await?;
        Ok(answer.pop().map_or(Renewed::Dead, |generation| Renewed::Alive { generation }))
    }

    /// Says again what this node owns, after Redis lost its data. Those that another one holds
    /// by now come back: they must be stopped here, and so must all of a dead incarnation.
    pub(crate) async fn reassert(
        &self,
        me: &Owner,
        owned: &[(String, i64)],
    ) -> Result<Vec<String>, CacheError> {
        let mut lost = Vec::new();
        for owned in owned.chunks(CLAIMS_PER_SCRIPT_MAX) {
            let asked = owned.iter().fold(self.ask(me), |asked, (entity, epoch)| {
                asked.key(claim_name(entity)).arg(entity).arg(epoch)
            });
            lost.extend(asked.run(&REASSERT).await?);
        }
        Ok(lost)
    }

    /// The node ends: its lease and its claims go, and the incarnation is dead. When an error
    /// cuts it short, what is left is swept.
    pub(crate) async fn resign(&self, me: &Owner) -> Result<(), CacheError> {
        self.forget(me, "resign").await.map(drop)
    }

    /// Forgets the claims of an incarnation that is gone from discovery and whose lease is over,
    /// and marks it dead; true when none is left. Refused (false) while the lease lives.
    pub(crate) async fn sweep(&self, dead: &Owner) -> Result<bool, CacheError> {
        self.forget(dead, "sweep").await
    }

    /// Owners that may still have claims or a lease: for the sweeper.
    pub(crate) async fn owners(&self) -> Result<Vec<Owner>, CacheError> {
        let members = Cmd::new().arg("SMEMBERS").arg(self.redis.key(OWNERS)).take();
        let owners: Vec<String> = self.redis.command(members).await?;
        owners.iter().map(|tag| Owner::parse(tag)).collect()
    }

    /// Says that there is nobody who could own anything: a cluster that starts for the first time
    /// need not settle. For the one node that founds it, before any node's first renewal; nothing
    /// happens when the cluster is known to Redis.
    pub(crate) async fn found(&self) -> Result<(), CacheError> {
        let mut set = Cmd::new();
        set.arg("SET").arg(self.redis.key(GENERATION)).arg(generation()).arg("NX");
        self.redis.command(set).await
    }

    /// In steps of a bounded size: Redis serves nobody else during a script.
    async fn forget(&self, owner: &Owner, why: &str) -> Result<bool, CacheError> {
        loop {
            let asked = self.ask(owner).arg(why).arg(self.redis.key(CLAIM_PREFIX));
            let answer = asked.arg(CLAIMS_PER_SCRIPT_MAX).run(&FORGET).await?;
            match answer.first().map(String::as_str) {
                Some("more") => {}
                Some("done") => return Ok(true),
                Some("lives") => return Ok(false),
                _ => return Err(unknown(&answer)),
            }
        }
    }

    /// What claims/prelude.lua is handed, in its order.
    fn ask(&self, me: &Owner) -> Ask<'_> {
        let ask = Ask { redis: &self.redis, keys: Vec::new(), args: Vec::new() };
        let ask = [GENERATION, SETTLING, EPOCH, OWNERS].into_iter().fold(ask, Ask::key);
        let ask = ask.owner_keys(me).arg(me.tag()).arg(self.lease.as_millis());
        let ask = ask.arg((self.lease + SETTLING_GRACE).as_millis());
        ask.arg(DEAD_INCARNATION_KEPT.as_millis()).arg(generation())
    }
}

impl Owner {
    fn parse(tag: &str) -> Result<Self, CacheError> {
        let parsed = tag.rsplit_once(':').and_then(|(node, incarnation)| {
            Some(Self { node: node.to_owned(), incarnation: incarnation.parse().ok()? })
        });
        parsed.ok_or_else(|| unknown(tag))
    }

    /// How an owner is written in Redis.
    fn tag(&self) -> String {
        format!("{}:{}", self.node, self.incarnation)
    }

    /// There while it has spoken within its lease.
    fn lease_name(&self) -> String {
        format!("lease:{}", self.tag())
    }
}

impl Claimed {
    fn parse(answer: &[String]) -> Result<Self, CacheError> {
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        match words[..] {
            ["granted", epoch] => match epoch.parse() {
                Ok(epoch) => Ok(Self::Granted { epoch }),
                Err(_) => Err(unknown(answer)),
            },
            ["held", owner] => Owner::parse(owner).map(Self::Held),
            ["settling"] => Ok(Self::Settling),
            ["dead"] => Ok(Self::Dead),
            _ => Err(unknown(answer)),
        }
    }
}

/// What a script is asked.
struct Ask<'a> {
    redis: &'a Redis,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Ask<'_> {
    fn key(mut self, name: impl AsRef<str>) -> Self {
        self.keys.push(self.redis.key(name.as_ref()));
        self
    }

    fn arg(mut self, arg: impl ToString) -> Self {
        self.args.push(arg.to_string().into_bytes());
        self
    }

    /// The three keys of an owner.
    fn owner_keys(self, owner: &Owner) -> Self {
        let tag = owner.tag();
        let lease = self.key(owner.lease_name());
        ["owned", "dead"].into_iter().fold(lease, |ask, of| ask.key(format!("{of}:{tag}")))
    }

    async fn run(self, script: &'static Script) -> Result<Vec<String>, CacheError> {
        self.redis.script(script, self.keys, self.args).await
    }
}

fn claim_name(entity: &str) -> String {
    format!("{CLAIM_PREFIX}{entity}")
}

/// A generation that was never before: Redis itself draws the same numbers in each script.
fn generation() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Something else than this release writes is there.
fn unknown(what: impl std::fmt::Debug) -> CacheError {
    CacheError::Unavailable(format!("it holds {what:?}, which no claim of this release is"))
}

const CLAIM_PREFIX: &str = "claim:";
/// A word that changes when Redis loses its data.
const GENERATION: &str = "generation";
/// There while owners have time to say again what they own.
const SETTLING: &str = "settling";
const EPOCH: &str = "epoch";
const OWNERS: &str = "owners";
