//! Owns one worker's measurement: its connections on one thread, from the first sign-in to the last
//! answer. It is told what to do and says what it has counted; whether it is a thread or a process
//! of its own, it does not know.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::Range,
    rc::Rc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    dialogue::{Dialogue, Loss},
    meter::{Meter, Slice},
    pacer::Pacer,
    plan::{Language, Line, Plan, RoomWish},
    script::{Pace, Script},
    seat::Seat,
    sign_in::{Entrance, Guest},
};

/// Guests that sign in side by side: what an account center does at once, and few enough to be
/// no load of their own. Beyond: they wait for their turn.
const SIGN_INS: usize = 16;

/// How often a worker says how many of its connections are there.
const RAMP_TOLD: Duration = Duration::from_millis(200);

/// A connection that has said nothing for so long pings: gates close those that are silent for
/// a minute, or for as long as they are told.
const SILENCE_MAX: Duration = Duration::from_secs(15);
const SILENCE_SEEN: Duration = Duration::from_secs(5);

/// How long the last answers may take after the end. Beyond: counted as not given.
const DRAIN: Duration = Duration::from_secs(3);
const DRAIN_SEEN: Duration = Duration::from_millis(20);

/// Bytes of a read, into a buffer that all connections share.
const READ_BYTES: usize = 64 * 1024;

/// What a worker is told, each word once, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
pub(super) enum Order {
    /// Connections sign in.
    Ramp,
    /// The measurement begins: all are there.
    Go,
    /// It ends before its time.
    Stop,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// So many connections are there; so many were tried.
    Ramp { connected: usize, tried: usize },
    /// One second, or what came after the last.
    Slice(Box<Slice>),
    /// That was all.
    Done,
    /// Nothing more will come; before [`Said::Done`] it has failed.
    Gone,
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) meter: RefCell<Meter>,
    pub(super) pacer: Pacer,
    pub(super) buffer: RefCell<Box<[u8]>>,
    entrance: Entrance,
    seats: RefCell<Vec<Rc<Seat>>>,
    alive: Cell<usize>,
}

impl World {
    /// Signs one in; how long it took is counted.
    pub(super) async fn admit(&self, n: usize, room: Option<&RoomWish>) -> Result<Guest, Loss> {
        let began = Instant::now();
        let device = format!("{}-{n}", self.plan.prefix);
        let guest = self.entrance.come_in(&device, room, n).await?;
        self.meter.borrow_mut().signed_in(began.elapsed());
        Ok(guest)
    }

    pub(super) fn one_less(&self) {
        self.alive.set(self.alive.get() - 1);
    }

    fn each(&self, mut done: impl FnMut(&Seat)) {
        self.seats.borrow().iter().for_each(|seat| done(seat));
    }
}

/// Does one worker's share of a plan, on this thread.
///
/// # Errors
/// What the system refuses it.
pub(super) fn work(
    plan: Plan,
    share: Range<usize>,
    language: &Language,
    orders: watch::Receiver<Order>,
    said: mpsc::Sender<Said>,
) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let work = async {
        let entrance = Entrance::new(&plan.addr, plan.gate.as_deref())?;
        let world = Rc::new(World {
            entrance,
            meter: RefCell::new(Meter::new()),
            pacer: Pacer::new().map_err(|e| format!("no timer: {e}"))?,
            buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
            seats: RefCell::default(),
            alive: Cell::new(0),
            plan,
        });
        Worker { world, orders, said }.measure(share, language).await
    };
    LocalSet::new().block_on(&runtime, work)
}

struct Worker {
    world: Rc<World>,
    orders: watch::Receiver<Order>,
    said: mpsc::Sender<Said>,
}

impl Worker {
    async fn measure(mut self, share: Range<usize>, language: &Language) -> Result<(), String> {
        tokio::task::spawn_local(call_who_is_due(self.world.clone()));
        tokio::task::spawn_local(keep_who_is_silent(self.world.clone()));
        let mut orders = self.orders.clone();
        let stopped = tokio::select! {
            () = self.ramp(share, language) => false,
            () = wait_for(&mut orders, Order::Stop) => true,
        };
        if !stopped {
            wait_for(&mut orders, Order::Go).await;
        }
        if *orders.borrow() == Order::Go {
            self.span(&mut orders).await;
        }
        let after = self.world.plan.span.as_secs();
        self.world.each(|seat| seat.dialogue.borrow_mut().end(&mut self.world.meter.borrow_mut()));
        self.tell_slice(after + 1).await;
        self.tell(Said::Done).await;
        Ok(())
    }

    /// Has everybody come in, each when it is its turn.
    async fn ramp(&mut self, share: Range<usize>, language: &Language) {
        let world = &self.world;
        let Plan { connections, ramp, .. } = world.plan;
        let groups = world.plan.groups_of_connections();
        let (began, count) = (Instant::now(), share.len());
        let mut shared = BTreeMap::new();
        let arrivals = stream::iter(share).map(|n| {
            let group = groups.get(n).copied().unwrap_or_default();
            let room = world.plan.groups[group].room.as_ref();
            async move {
                sleep_until(began + ramp.mul_f64(n as f64 / connections as f64)).await;
                (n, group, world.admit(n, room).await)
            }
        });
        let mut arrivals = std::pin::pin!(arrivals.buffer_unordered(SIGN_INS));
        let (mut tried, mut told) = (0, Instant::now());
        while let Some((n, group, guest)) = arrivals.next().await {
            tried += 1;
            match guest {
                Ok(guest) => {
                    let lines = lines(world, group, n, language, &mut shared);
                    sit_down(world, n, group, lines, guest);
                }
                Err(why) => world.meter.borrow_mut().refused(&why),
            }
            if told.elapsed() >= RAMP_TOLD || tried == count {
                told = Instant::now();
                self.tell(Said::Ramp { connected: world.alive.get(), tried }).await;
            }
        }
    }

    /// Measures from the warm-up to the last answer.
    async fn span(&mut self, orders: &mut watch::Receiver<Order>) {
        let world = self.world.clone();
        let from = Instant::now();
        let begins = from + world.plan.warm_up;
        let ends = begins + world.plan.span;
        world.meter.borrow_mut().begin(begins);
        world.each(|seat| {
            let script = script(&world.plan, seat, from, ends);
            seat.dialogue.borrow_mut().begin(script);
            seat.write(&world, Instant::now());
        });
        for second in 0..world.plan.span.as_secs() {
            let until = begins + Duration::from_secs(second + 1);
            tokio::select! {
                () = sleep_until(until) => {}
                () = wait_for(orders, Order::Stop) => break,
                () = nobody_left(&world) => break,
            }
            self.tell_slice(second + 1).await;
        }
        let now = Instant::now();
        world.each(|seat| {
            seat.dialogue.borrow_mut().stop(now);
            // What was due until now and whose time nobody has called yet.
            seat.write(&world, now);
        });
        let drained = timeout(DRAIN, async {
            let mut look = interval(DRAIN_SEEN);
            let noisy = |seat: &Rc<Seat>| !seat.dialogue.borrow().is_quiet();
            while world.seats.borrow().iter().any(noisy) {
                look.tick().await;
            }
        });
        // What is still under way then is counted as what it is.
        drop(drained.await);
    }

    async fn tell_slice(&self, next: u64) {
        let slice = self.world.meter.borrow_mut().cut(next);
        self.tell(Said::Slice(Box::new(slice))).await;
    }

    async fn tell(&self, said: Said) {
        // When nobody listens any more, the orders have ended too.
        drop(self.said.send(said).await);
    }
}

/// Waits until this was said, or something after it, or nobody is there to say it.
async fn wait_for(orders: &mut watch::Receiver<Order>, order: Order) {
    drop(orders.wait_for(|said| *said >= order).await.map(drop));
}

async fn nobody_left(world: &World) {
    let mut look = interval(RAMP_TOLD);
    while world.alive.get() > 0 {
        look.tick().await;
    }
}

async fn call_who_is_due(world: Rc<World>) {
    loop {
        let place = world.pacer.next().await;
        let seat = world.seats.borrow().get(place).cloned();
        if let Some(seat) = seat {
            seat.called(&world);
        }
    }
}

async fn keep_who_is_silent(world: Rc<World>) {
    let mut look = interval(SILENCE_SEEN);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let now = Instant::now();
        let Some(since) = now.checked_sub(SILENCE_MAX) else { continue };
        world.each(|seat| seat.ping(&world, now, since));
    }
}

fn sit_down(world: &Rc<World>, n: usize, group: usize, lines: Rc<[Line]>, guest: Guest) {
    let dialogue = Dialogue::new(lines, Instant::now());
    let mut seats = world.seats.borrow_mut();
    let seat = Rc::new(Seat::new(n, seats.len(), group, dialogue));
    seats.push(seat.clone());
    world.alive.set(world.alive.get() + 1);
    tokio::task::spawn_local(seat.live(world.clone(), guest));
}

/// The messages of a connection, encoded; those of a group are the same where none has its number
/// in it.
fn lines(
    world: &World,
    group: usize,
    n: usize,
    language: &Language,
    shared: &mut BTreeMap<usize, Rc<[Line]>>,
) -> Rc<[Line]> {
    if let Some(lines) = shared.get(&group) {
        return lines.clone();
    }
    let steps = &world.plan.groups[group].steps;
    let lines = steps.iter().map(|step| step.line("", language, n));
    let lines: Rc<[Line]> = lines.collect::<Result<_, _>>().unwrap_or_default();
    if steps.iter().all(|step| !step.body.contains("{n}")) {
        shared.insert(group, lines.clone());
    }
    lines
}

/// What a connection does. Those that the clock drives begin one after the other, so that a rate
/// is even.
fn script(plan: &Plan, seat: &Seat, from: Instant, ends: Instant) -> Script {
    let steps = &plan.groups[seat.group].steps;
    let share = seat.n as f64 / plan.connections as f64;
    let first = match steps[0].pace {
        Pace::Every(interval) => from + interval.mul_f64(share),
        Pace::Depth(_) | Pace::Pause(_) => from,
    };
    Script::new(steps.iter().map(super::plan::Step::turn).collect(), first, ends)
}
