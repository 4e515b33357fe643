//! Owns one connection of a worker: its socket and its dialogue, from the sign-in until it is lost.
//! Leaves what is said to `dialogue`, and when to `pacer`.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    dialogue::{Dialogue, Loss},
    plan::RoomWish,
    sign_in::Guest,
    worker::World,
};

/// Reads of one connection in a row. Beyond: the others have their turn.
const READS_MAX: usize = 8;

/// How long the last answers of a connection that is to hang up may take. Beyond: they count as
/// not given.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection, or the place of one that is lost.
#[derive(Debug)]
pub(super) struct Seat {
    /// Its number, among those of all workers.
    pub(super) n: usize,
    /// Its place among those of its worker.
    pub(super) place: usize,
    pub(super) group: usize,
    pub(super) dialogue: RefCell<Dialogue>,
    socket: RefCell<Option<Rc<TcpStream>>>,
    /// Something is to be sent that the socket has not taken.
    stir: Notify,
    /// When the pacer calls it next.
    called: Cell<Option<Instant>>,
}

impl Seat {
    pub(super) fn new(n: usize, place: usize, group: usize, dialogue: Dialogue) -> Self {
        Self {
            n,
            place,
            group,
            dialogue: RefCell::new(dialogue),
            socket: RefCell::new(None),
            stir: Notify::new(),
            called: Cell::new(None),
        }
    }

    /// The pacer calls: its time has come.
    pub(super) fn called(&self, world: &World) {
        self.called.set(None);
        self.write(world, Instant::now());
    }

    /// Says that somebody is there, if it has said nothing since then.
    pub(super) fn ping(&self, world: &World, now: Instant, since: Instant) {
        if self.socket.borrow().is_some() {
            self.dialogue.borrow_mut().ping(now, since);
            self.write(world, now);
        }
    }

    /// Sends what is due.
    pub(super) fn write(&self, world: &World, now: Instant) {
        let socket = self.socket.borrow();
        let Some(socket) = socket.as_ref() else { return };
        let mut dialogue = self.dialogue.borrow_mut();
        let next = dialogue.write(now, &mut world.meter.borrow_mut());
        while !dialogue.out.is_empty() {
            match socket.try_write(&dialogue.out) {
                Ok(sent) => drop(dialogue.out.drain(..sent)),
                // Whoever reads sees why, if it is broken.
                Err(_) => {
                    self.stir.notify_one();
                    break;
                }
            }
        }
        if let Some(next) = next
            && self.called.get().is_none_or(|called| next < called)
        {
            self.called.set(Some(next));
            world.pacer.call(self.place, next);
        }
    }

    /// Lives until it is lost, signing in anew where a stay is over.
    pub(super) async fn live(self: Rc<Self>, world: Rc<World>, mut guest: Guest) {
        let group = &world.plan.groups[self.group];
        let (room, stay) = (group.room.as_ref(), group.stay);
        loop {
            let until = stay.map(|stay| Instant::now() + stay);
            let lost = match self.converse(&world, &mut guest, until).await {
                Ok(()) => self.come_again(&world, guest, room).await,
                Err(lost) => Err(lost),
            };
            match lost {
                Ok(again) => guest = again,
                Err(lost) => {
                    self.lost(&world, &lost);
                    return;
                }
            }
        }
    }

    fn lost(&self, world: &World, why: &str) {
        self.socket.borrow_mut().take();
        let mut meter = world.meter.borrow_mut();
        meter.refused(why);
        self.dialogue.borrow_mut().end(&mut meter);
        world.one_less();
    }

    async fn come_again(
        &self,
        world: &World,
        guest: Guest,
        room: Option<&RoomWish>,
    ) -> Result<Guest, Loss> {
        self.socket.borrow_mut().take();
        guest.say_goodbye().await;
        let guest = world.admit(self.n, room).await?;
        let now = Instant::now();
        self.dialogue.borrow_mut().renew(now, &mut world.meter.borrow_mut());
        Ok(guest)
    }

    /// Asks and listens until its time is over and all is answered.
    async fn converse(
        &self,
        world: &World,
        guest: &mut Guest,
        until: Option<Instant>,
    ) -> Result<(), Loss> {
        // The pacer sends what is due meanwhile.
        *self.socket.borrow_mut() = Some(guest.socket.clone());
        let unread = std::mem::take(&mut guest.unread);
        let mut leaves = until;
        self.hear(world, &unread)?;
        self.write(world, Instant::now());
        loop {
            let unsent = !self.dialogue.borrow().out.is_empty();
            let time = leaves.unwrap_or_else(|| Instant::now() + FAREWELL);
            tokio::select! {
                ready = guest.socket.readable() => {
                    ready.map_err(|e| broken(&e))?;
                    self.read(world, &guest.socket)?;
                }
                ready = guest.socket.writable(), if unsent => ready.map_err(|e| broken(&e))?,
                () = self.stir.notified() => {}
                () = sleep_until(time), if leaves.is_some() => {
                    let mut dialogue = self.dialogue.borrow_mut();
                    // It was told before, and the last answers do not come.
                    if dialogue.leaves() {
                        return Ok(());
                    }
                    dialogue.leave();
                    leaves = Some(Instant::now() + FAREWELL);
                }
            }
            self.write(world, Instant::now());
            let dialogue = self.dialogue.borrow();
            if dialogue.leaves() && dialogue.is_quiet() {
                return Ok(());
            }
        }
    }

    /// Takes in what is there.
    fn read(&self, world: &World, socket: &TcpStream) -> Result<(), Loss> {
        let mut buffer = world.buffer.borrow_mut();
        for _ in 0..READS_MAX {
            match socket.try_read(&mut buffer) {
                Ok(0) => return Err("gate: hung up".to_owned()),
                Ok(read) => {
                    self.hear(world, &buffer[..read])?;
                    if read < buffer.len() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(broken(&e)),
            }
        }
        Ok(())
    }

    fn hear(&self, world: &World, came: &[u8]) -> Result<(), Loss> {
        let mut meter = world.meter.borrow_mut();
        self.dialogue.borrow_mut().read(came, Instant::now(), &mut meter)
    }
}

fn broken(error: &io::Error) -> Loss {
    format!("gate: {}", error.kind())
}
