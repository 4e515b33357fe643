//! One node leads, and never two.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

struct Candidate {
    leading: channel::Receiver<bool>,
    tasks: Tasks,
    _running: JoinSet<()>,
}

impl Candidate {
    async fn start(world: &World, me: &'static str) -> Self {
        let leading = channel::Sender::new(false);
        let seen = leading.subscribe();
        let tasks = Tasks::default();
        let (etcd, told) = (world.etcd().await, tasks.clone());
        let mut running = JoinSet::new();
        running.spawn(async move { etcd.elect("rooms", me, leading, told).await });
        Self { leading: seen, tasks, _running: running }
    }

    fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    async fn wins(&mut self) {
        let won = timeout(PATIENCE, self.leading.wait_for(|l| *l)).await;
        won.expect("it wins").expect("it takes part");
    }

    async fn loses(&mut self) {
        let lost = timeout(PATIENCE, self.leading.wait_for(|l| !*l)).await;
        lost.expect("it loses").expect("it takes part");
    }
}

/// Looks all the time whether more than one leads.
struct Umpire {
    twice: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl Umpire {
    fn watch(candidates: &[&Candidate]) -> Self {
        let all: Vec<_> = candidates.iter().map(|c| c.leading.clone()).collect();
        let (twice, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (seen, looked) = (twice.clone(), looks.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            loop {
                // Twice in the same order: who leads in both readings led between them too.
                let leading = || all.iter().map(|l| *l.borrow()).collect::<Vec<_>>();
                let (once, again) = (leading(), leading());
                if once.iter().zip(&again).filter(|(a, b)| **a && **b).count() > 1 {
                    seen.store(true, Ordering::Relaxed);
                }
                looked.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_micros(500)).await;
            }
        });
        Self { twice, looks, _running: running }
    }

    fn judge(self) {
        let Self { twice, looks, _running: _ } = self;
        assert!(looks.load(Ordering::Relaxed) > 10, "it has looked");
        assert!(!twice.load(Ordering::Relaxed), "two led at once");
    }
}

async fn one_leads(candidates: &[Candidate]) -> usize {
    let leaders = || candidates.iter().filter(|c| c.leads()).count();
    until("one leader", async || leaders() == 1).await;
    candidates.iter().position(Candidate::leads).expect("seen above")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_leads_and_the_next_follows_who_resigns_or_dies() {
    let world = World::shared(SHORT);
    let mut all = Vec::new();
    for me in ["a", "b", "c"] {
        all.push(Candidate::start(&world, me).await);
    }
    let umpire = Umpire::watch(&all.iter().collect::<Vec<_>>());
    let first = one_leads(&all).await;
    let told = Instant::now();
    all[first].tasks.stop();
    all[first].loses().await;
    let _resigning = all.remove(first);
    let second = one_leads(&all).await;
    assert!(told.elapsed() < SHORT, "a seat that is given up is taken at once");

    let died = Instant::now();
    all.remove(second);
    one_leads(&all).await;
    // Since its last proof at most a third of the lease has passed.
    assert!(died.elapsed() >= SHORT / 4, "the dead leader's lease was waited for");
    umpire.judge();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_outlives_an_etcd_that_dies_and_one_that_freezes() {
    let mut server = bastide_testkit::Etcd::start();
    let world = World::at(server.url(), SHORT);
    let mut all = [
        Candidate::start(&world, "a").await,
        Candidate::start(&world, "b").await,
        Candidate::start(&world, "c").await,
    ];
    let umpire = Umpire::watch(&all.each_ref());
    let leader = one_leads(&all).await;
    server.kill();
    let died = Instant::now();
    all[leader].loses().await;
    assert!(died.elapsed() < SHORT * 2, "it leads no longer than it can be sure");
    server.restart();
    one_leads(&all).await;

    let leader = one_leads(&all).await;
    server.freeze();
    let froze = Instant::now();
    all[leader].loses().await;
    let took = froze.elapsed();
    server.thaw();
    assert!(took < SHORT * 2, "{took:?}");
    let leader = one_leads(&all).await;
    all[leader].tasks.stop();
    all[leader].loses().await;
    one_leads(&all).await;
    umpire.judge();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_lease_is_revoked_leads_no_more_at_once_and_may_win_again() {
    let world = World::shared(LONG);
    let mut only = Candidate::start(&world, "a").await;
    only.wins().await;
    let mut raw = world.raw().await;
    let seat = format!("/bastide/{}/elections/rooms", world.cluster);
    let leader = raw.leader(seat).await.expect("etcd's own election knows it");
    let kv = leader.kv().expect("a leader");
    assert_eq!(kv.value(), b"a");
    let revoked = Instant::now();
    raw.lease_revoke(kv.lease()).await.expect("etcd answers");
    only.loses().await;
    assert!(revoked.elapsed() < LONG / 3, "before the renewal would tell");
    only.wins().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_its_lease_in_the_line_does_not_lead_by_its_old_place() {
    let world = World::shared(LONG);
    let mut first = Candidate::start(&world, "a").await;
    first.wins().await;
    let second = Candidate::start(&world, "b").await;
    let lease = place(&world, "b").await;
    let mut third = Candidate::start(&world, "c").await;
    place(&world, "c").await;
    // The second hears of it with its next renewal only, and etcd tells it that it has won.
    world.raw().await.lease_revoke(lease).await.expect("etcd answers");
    let umpire = Umpire::watch(&[&first, &second, &third]);
    first.tasks.stop();
    third.wins().await;
    until("the second in the line again", async || place(&world, "b").await != lease).await;
    assert!(!second.leads());
    umpire.judge();
}

/// The lease of a candidate that is in the line, once it is.
async fn place(world: &World, me: &str) -> i64 {
    let mut raw = world.raw().await;
    let line = format!("/bastide/{}/elections/rooms/", world.cluster);
    let mut lease = None;
    until("a place in the line", async || {
        let prefix = etcd_client::GetOptions::new().with_prefix();
        let all = raw.get(line.as_str(), Some(prefix)).await.expect("etcd answers");
        let mine = all.kvs().iter().find(|kv| kv.value() == me.as_bytes());
        lease = mine.map(etcd_client::KeyValue::lease);
        lease.is_some()
    })
    .await;
    lease.expect("seen above")
}
