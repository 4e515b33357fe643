//! Any order of calls by any owners, compared with maps in memory after each call: who owns
//! what, that epochs grow, that a dead incarnation gets nothing, that asking twice is asking once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;

/// 60 calls of 6 owners on 3 entities: each owner meets each entity, and most of them die.
const CALLS_MAX: usize = 60;
const OWNERS_MAX: usize = 6;
const ENTITIES: [&str; 3] = ["x", "y", "z"];

#[derive(Clone, Copy, Debug)]
enum Call {
    Claim {
        floor: Floor,
    },
    TakeOver {
        from: usize,
        floor: Floor,
    },
    Release,
    Renew,
    Reassert,
    Resign,
    Sweep,
    Found,
    /// The lease ends.
    Lapse,
    /// Redis loses its data.
    Wipe,
    /// The time to settle ends.
    Settle,
}

/// What the caller knows of the epoch that was written last.
#[derive(Clone, Copy, Debug)]
enum Floor {
    Nothing,
    Last,
    /// Somebody had a clock that was 1000 s fast.
    Future,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    call: Call,
    owner: usize,
    entity: usize,
    /// The caller had no answer and asks again.
    twice: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let floor = || prop_oneof![Just(Floor::Nothing), Just(Floor::Last), Just(Floor::Future)];
    let call = prop_oneof![
        8 => floor().prop_map(|floor| Call::Claim { floor }),
        8 => (0..OWNERS_MAX, floor()).prop_map(|(from, floor)| Call::TakeOver { from, floor }),
        4 => Just(Call::Release),
        4 => Just(Call::Renew),
        4 => Just(Call::Reassert),
        1 => Just(Call::Resign),
        2 => Just(Call::Sweep),
        2 => Just(Call::Found),
        6 => Just(Call::Lapse),
        1 => Just(Call::Wipe),
        8 => Just(Call::Settle),
    ];
    let of = (call, 0..OWNERS_MAX, 0..ENTITIES.len(), any::<bool>());
    of.prop_map(|(call, owner, entity, twice)| Step { call, owner, entity, twice })
}

#[derive(Default)]
struct Model {
    /// Entity → owner and epoch.
    claims: BTreeMap<usize, (usize, i64)>,
    leases: BTreeSet<usize>,
    dead: BTreeSet<usize>,
    /// Those on record.
    owners: BTreeSet<usize>,
    founded: bool,
    settling: bool,
    /// The greatest epoch of each entity ever, and since Redis lost its data: the former is in
    /// the store, the latter in Redis.
    ever: BTreeMap<usize, i64>,
    since_wipe: BTreeMap<usize, i64>,
    /// What each owner thinks it owns, right or not: owner, entity → epoch.
    believed: BTreeMap<(usize, usize), i64>,
}

impl Model {
    fn lives(&mut self, owner: usize) -> bool {
        if self.dead.contains(&owner) {
            return false;
        }
        self.settling |= !self.founded;
        self.founded = true;
        self.leases.insert(owner);
        self.owners.insert(owner);
        true
    }

    /// What a claim, or with `from` a take-over, must come to; `None`: a new epoch.
    fn claim(&mut self, step: Step, from: Option<usize>) -> Option<Claimed> {
        if !self.lives(step.owner) {
            return Some(Claimed::Dead);
        }
        match self.claims.get(&step.entity) {
            Some((owner, _)) if *owner == step.owner => None,
            _ if self.settling => Some(Claimed::Settling),
            Some((owner, _)) if Some(*owner) != from || self.leases.contains(owner) => {
                Some(Claimed::Held(owner_of(*owner)))
            }
            Some((owner, _)) => {
                self.dead.insert(*owner);
                None
            }
            None => None,
        }
    }

    fn keep(&mut self, owner: usize, entity: usize, epoch: i64) {
        self.claims.insert(entity, (owner, epoch));
        for epochs in [&mut self.ever, &mut self.since_wipe] {
            let greatest = epochs.entry(entity).or_default();
            *greatest = epoch.max(*greatest);
        }
    }

    fn reassert(&mut self, me: usize, owned: &[(usize, i64)]) -> Vec<usize> {
        // Nothing to say again is no sign of life either.
        let alive = owned.is_empty() || self.lives(me);
        let mut lost = Vec::new();
        for &(entity, epoch) in owned {
            match self.claims.get(&entity) {
                _ if !alive => lost.push(entity),
                Some((owner, kept)) if *owner != me && *kept >= epoch => lost.push(entity),
                Some((_, kept)) if *kept >= epoch => {}
                _ => self.keep(me, entity, epoch),
            }
        }
        lost
    }

    fn bury(&mut self, owner: usize) {
        self.dead.insert(owner);
        self.leases.remove(&owner);
        self.owners.remove(&owner);
        self.claims.retain(|_, (of, _)| *of != owner);
    }

    fn wipe(&mut self) {
        let (ever, believed) = (std::mem::take(&mut self.ever), std::mem::take(&mut self.believed));
        *self = Self { ever, believed, ..Self::default() };
    }
}

/// Two incarnations of three nodes.
fn owner_of(owner: usize) -> Owner {
    let node = ["a", "b.b", "c-c"][owner / 2].to_owned();
    Owner { node, incarnation: i64::try_from(owner % 2).unwrap() }
}

async fn take(cluster: &Cluster, model: &mut Model, step: Step) {
    let Cluster { claims, .. } = cluster;
    let me = owner_of(step.owner);
    let times = if step.twice { 2 } else { 1 };
    match step.call {
        Call::Claim { floor } => claim(cluster, model, step, None, floor).await,
        Call::TakeOver { from, floor } => claim(cluster, model, step, Some(from), floor).await,
        Call::Release => {
            let epoch = model.believed.remove(&(step.owner, step.entity)).unwrap_or(0);
            for _ in 0..times {
                claims.release(ENTITIES[step.entity], &me, epoch).await.unwrap();
            }
            if model.claims.get(&step.entity) == Some(&(step.owner, epoch)) {
                model.claims.remove(&step.entity);
            }
        }
        Call::Renew => {
            let renewed = claims.renew(&me).await.unwrap();
            assert_eq!(matches!(renewed, Renewed::Alive { .. }), model.lives(step.owner));
        }
        Call::Reassert => {
            let believed = model.believed.iter().filter(|((owner, _), _)| *owner == step.owner);
            let owned: Vec<(usize, i64)> = believed.map(|((_, e), epoch)| (*e, *epoch)).collect();
            let named: Vec<_> =
                owned.iter().map(|(e, at)| (ENTITIES[*e].to_owned(), *at)).collect();
            let lost = model.reassert(step.owner, &owned);
            let expected: Vec<_> = lost.iter().map(|e| ENTITIES[*e].to_owned()).collect();
            for _ in 0..times {
                assert_eq!(claims.reassert(&me, &named).await, Ok(expected.clone()));
            }
            model.believed.retain(|(owner, e), _| *owner != step.owner || !lost.contains(e));
        }
        Call::Resign => {
            for _ in 0..times {
                claims.resign(&me).await.unwrap();
            }
            model.bury(step.owner);
        }
        Call::Sweep => {
            let over = !model.leases.contains(&step.owner);
            for _ in 0..times {
                assert_eq!(claims.sweep(&me).await, Ok(over));
            }
            if over {
                model.bury(step.owner);
            }
        }
        Call::Found => {
            claims.found().await.unwrap();
            model.founded = true;
        }
        Call::Lapse => {
            cluster.lapse(&me).await;
            model.leases.remove(&step.owner);
        }
        Call::Wipe => {
            cluster.forget(&cluster.names().await).await;
            model.wipe();
        }
        Call::Settle => {
            cluster.forget(&["settling".to_owned()]).await;
            model.settling = false;
        }
    }
}

async fn claim(
    cluster: &Cluster,
    model: &mut Model,
    step: Step,
    from: Option<usize>,
    floor: Floor,
) {
    let last = model.ever.get(&step.entity).copied().unwrap_or(0);
    let floor = match floor {
        Floor::Nothing => 0,
        Floor::Last => last,
        Floor::Future => last + 1_000_000_000,
    };
    let (entity, me) = (ENTITIES[step.entity], owner_of(step.owner));
    let ask = async || match from {
        None => cluster.claims.claim(entity, &me, floor).await.unwrap(),
        Some(from) => cluster.claims.take_over(entity, &owner_of(from), &me, floor).await.unwrap(),
    };
    let mut answer = ask().await;
    if step.twice {
        // Granted again, under a later epoch; anything else stays what it was.
        let again = ask().await;
        match (&answer, &again) {
            (Claimed::Granted { epoch: first }, Claimed::Granted { epoch: second }) => {
                assert!(first < second, "asked twice");
            }
            _ => assert_eq!(again, answer, "asked twice"),
        }
        answer = again;
    }
    match (model.claim(step, from), answer) {
        (Some(expected), answer) => {
            assert_eq!(answer, expected);
        }
        (None, answer) => {
            let fresh = epoch(answer);
            let known = model.since_wipe.values().max().copied().unwrap_or(0);
            assert!(fresh > floor && fresh > known, "{fresh} is above {floor} and {known}");
            model.keep(step.owner, step.entity, fresh);
        }
    }
    if let Some((owner, epoch)) = model.claims.get(&step.entity)
        && *owner == step.owner
    {
        model.believed.insert((step.owner, step.entity), *epoch);
    }
}

/// What Redis keeps is what the model says, in each of the ways in which it is kept.
async fn compare(cluster: &Cluster, model: &Model) {
    let mut expected = BTreeSet::new();
    for (entity, (owner, _)) in &model.claims {
        expected.insert(format!("claim:{}", ENTITIES[*entity]));
        expected.insert(format!("owned:{}", owner_of(*owner).tag()));
    }
    expected.extend(model.leases.iter().map(|owner| format!("lease:{}", owner_of(*owner).tag())));
    expected.extend(model.dead.iter().map(|owner| format!("dead:{}", owner_of(*owner).tag())));
    expected.extend(model.founded.then(|| "generation".to_owned()));
    expected.extend(model.settling.then(|| "settling".to_owned()));
    expected.extend((!model.owners.is_empty()).then(|| "owners".to_owned()));
    expected.extend((!model.since_wipe.is_empty()).then(|| "epoch".to_owned()));
    assert_eq!(cluster.names().await.into_iter().collect::<BTreeSet<_>>(), expected);

    for (n, entity) in ENTITIES.iter().enumerate() {
        let owner = model.claims.get(&n).map(|(owner, _)| owner_of(*owner));
        assert_eq!(cluster.claims.locate(entity).await, Ok(owner));
    }
    for owner in 0..OWNERS_MAX {
        let key = cluster.redis.key(&format!("owned:{}", owner_of(owner).tag()));
        let members = Cmd::new().arg("SMEMBERS").arg(key).take();
        let owned: BTreeSet<String> = cluster.redis.command(members).await.unwrap();
        let claims = model.claims.iter().filter(|(_, (of, _))| *of == owner);
        assert_eq!(owned, claims.map(|(n, _)| ENTITIES[*n].to_owned()).collect());
    }
    let on_record: BTreeSet<_> =
        cluster.claims.owners().await.unwrap().iter().map(Owner::tag).collect();
    assert_eq!(on_record, model.owners.iter().map(|owner| owner_of(*owner).tag()).collect());
}

#[test]
fn whatever_the_order_of_calls_there_is_one_owner_and_epochs_grow_and_the_dead_get_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..CALLS_MAX);
    let run = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let (cluster, mut model) = (Cluster::new(), Model::default());
            for step in steps {
                take(&cluster, &mut model, step).await;
                compare(&cluster, &model).await;
            }
        });
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
