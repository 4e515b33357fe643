//! Owns the peers: the same actor in each crate's own words.

#![expect(clippy::disallowed_methods, reason = "these actors are not accounted for at a drain")]

use std::cell::RefCell;

use actix::{Actor as _, Arbiter, Handler};
use bastide::__bench::{Letter, Post};
use kameo::{actor::Spawn as _, mailbox};
use tokio::sync::{mpsc, oneshot};

use crate::peer::Peer;

/// As many as the others have, where there is a bound.
const PLACES: usize = 1024;

/// Whether a sum is what somebody thinks.
fn is(sum: u64, thought: i32) -> bool {
    i64::try_from(sum) == Ok(i64::from(thought))
}

struct Tell(u64);

struct Ask(i32);

// === tokio ===

/// A raw channel before a task.
pub(crate) struct Tokio;

pub(crate) enum Said {
    Tell(u64),
    Ask(i32, oneshot::Sender<bool>),
}

impl Peer for Tokio {
    const NAME: &'static str = "tokio";
    const BOUNDED: bool = true;
    type Actor = mpsc::Sender<Said>;

    async fn spawn(_: usize) -> Self::Actor {
        let (actor, mut mailbox) = mpsc::channel(PLACES);
        tokio::spawn(async move {
            let mut sum = 0;
            while let Some(said) = mailbox.recv().await {
                match said {
                    Said::Tell(number) => sum += number,
                    Said::Ask(thought, reply) => drop(reply.send(is(sum, thought))),
                }
            }
        });
        actor
    }

    async fn tell(actor: &Self::Actor, number: u64) {
        actor.send(Said::Tell(number)).await.expect("the actor lives");
    }

    async fn ask(actor: &Self::Actor, sum: i32) -> bool {
        let (reply, answer) = oneshot::channel();
        actor.send(Said::Ask(sum, reply)).await.expect("the actor lives");
        answer.await.expect("the actor answers")
    }
}

// === bastide ===

/// An entity's mailbox before a task.
pub(crate) struct Bastide;

impl Peer for Bastide {
    const NAME: &'static str = "bastide";
    const BOUNDED: bool = true;
    type Actor = Post;

    async fn spawn(_: usize) -> Post {
        let post = Post::default();
        let mailbox = post.clone();
        tokio::spawn(async move {
            let mut sum = 0;
            loop {
                match mailbox.take().await {
                    Letter::Number(number) => sum += number,
                    Letter::Question(thought, reply) => drop(reply.send(is(sum, thought))),
                }
            }
        });
        post
    }

    async fn tell(actor: &Post, number: u64) {
        actor.tell(number).await;
    }

    async fn ask(actor: &Post, sum: i32) -> bool {
        actor.ask(sum).await
    }
}

// === kameo ===

pub(crate) struct Kameo;

#[derive(kameo::Actor)]
pub(crate) struct KameoSum(u64);

impl kameo::message::Message<Tell> for KameoSum {
    type Reply = ();

    async fn handle(&mut self, Tell(number): Tell, _: &mut kameo::message::Context<Self, ()>) {
        self.0 += number;
    }
}

impl kameo::message::Message<Ask> for KameoSum {
    type Reply = bool;

    async fn handle(
        &mut self,
        Ask(thought): Ask,
        _: &mut kameo::message::Context<Self, bool>,
    ) -> bool {
        is(self.0, thought)
    }
}

impl Peer for Kameo {
    const NAME: &'static str = "kameo";
    const BOUNDED: bool = true;
    type Actor = kameo::actor::ActorRef<KameoSum>;

    async fn spawn(_: usize) -> Self::Actor {
        KameoSum::spawn_with_mailbox(KameoSum(0), mailbox::bounded(PLACES))
    }

    async fn tell(actor: &Self::Actor, number: u64) {
        actor.tell(Tell(number)).await.expect("the actor lives");
    }

    async fn ask(actor: &Self::Actor, sum: i32) -> bool {
        actor.ask(Ask(sum)).await.expect("the actor answers")
    }
}

// === ractor ===

pub(crate) struct Ractor;

pub(crate) struct RactorSum;

pub(crate) enum RactorSaid {
    Tell(u64),
    Ask(i32, ractor::RpcReplyPort<bool>),
}

impl ractor::Actor for RactorSum {
    type Msg = RactorSaid;
    type State = u64;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<RactorSaid>,
        (): (),
    ) -> Result<u64, ractor::ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<RactorSaid>,
        said: RactorSaid,
        sum: &mut u64,
    ) -> Result<(), ractor::ActorProcessingErr> {
        match said {
            RactorSaid::Tell(number) => *sum += number,
            RactorSaid::Ask(thought, reply) => drop(reply.send(is(*sum, thought))),
        }
        Ok(())
    }
}

impl Peer for Ractor {
    const NAME: &'static str = "ractor";
    const BOUNDED: bool = false;
    type Actor = ractor::ActorRef<RactorSaid>;

    async fn spawn(_: usize) -> Self::Actor {
        ractor::Actor::spawn(None, RactorSum, ()).await.expect("it starts").0
    }

    async fn tell(actor: &Self::Actor, number: u64) {
        actor.cast(RactorSaid::Tell(number)).expect("the actor lives");
    }

    async fn ask(actor: &Self::Actor, sum: i32) -> bool {
        let answer = actor.call(|reply| RactorSaid::Ask(sum, reply), None).await;
        answer.expect("the actor lives").expect("the actor answers")
    }
}

// === actix ===

pub(crate) struct Actix;

pub(crate) struct ActixSum(u64);

impl actix::Message for Tell {
    type Result = ();
}

impl actix::Message for Ask {
    type Result = bool;
}

impl actix::Actor for ActixSum {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(PLACES);
    }
}

impl Handler<Tell> for ActixSum {
    type Result = ();

    fn handle(&mut self, Tell(number): Tell, _: &mut Self::Context) {
        self.0 += number;
    }
}

impl Handler<Ask> for ActixSum {
    type Result = bool;

    fn handle(&mut self, Ask(thought): Ask, _: &mut Self::Context) -> bool {
        is(self.0, thought)
    }
}

thread_local! {
    /// The thread of the actors, where they have one.
    static ACTORS: RefCell<Option<Arbiter>> = const { RefCell::new(None) };
}

impl Peer for Actix {
    const NAME: &'static str = "actix";
    /// `do_send` asks for no place.
    const BOUNDED: bool = false;
    type Actor = actix::Addr<ActixSum>;

    fn block_on<T, F>(threads: usize, work: F) -> T
    where
        F: Future<Output = T>,
    {
        let system = actix::System::new();
        if threads > 1 {
            ACTORS.set(Some(Arbiter::new()));
        }
        let done = system.block_on(work);
        if let Some(actors) = ACTORS.take() {
            assert!(actors.stop(), "it runs");
            actors.join().expect("no panic");
        }
        done
    }

    async fn spawn(threads: usize) -> Self::Actor {
        if threads == 1 {
            return ActixSum(0).start();
        }
        ACTORS.with_borrow(|actors| {
            let actors = actors.as_ref().expect("a thread for them").handle();
            ActixSum::start_in_arbiter(&actors, |_| ActixSum(0))
        })
    }

    async fn tell(actor: &Self::Actor, number: u64) {
        actor.do_send(Tell(number));
    }

    async fn ask(actor: &Self::Actor, sum: i32) -> bool {
        actor.send(Ask(sum)).await.expect("the actor answers")
    }
}
