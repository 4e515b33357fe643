//! Owns kinds of entities: what a studio declared for all entities of one kind, and how one of them
//! is made and set going.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::time::Instant;

use super::{
    Classes, Ctx, EntityId, Host, LoadError, Player, Table,
    actor::Entity,
    host::Running,
    seats::{Seats, Targets},
    session::Carried,
    writer::Writer,
};
use crate::{
    def,
    directory::Claim,
    limits::{REST_AFTER, SIGN_IN_DEADLINE},
    link::{Account, Mailbox},
    room::AnyRoomKind,
    telemetry::{Panic, catch},
};

/// Makes a state from what was saved, at a time in ms since 1970.
type Load<S> = fn(&Account, Option<&[u8]>, i64) -> Result<S, LoadError>;

/// The kind of the entities that sessions have; their keys are accounts.
pub(crate) const PLAYER: &str = "player";

/// What a studio declared for one kind of entity.
pub(crate) struct Kind<S> {
    pub(super) name: &'static str,
    pub(super) table: Table<S>,
    pub(super) load: Load<S>,
    pub(super) save: fn(&S) -> Vec<u8>,
    pub(super) user: fn(&S, &Account, i64) -> def::User,
    pub(super) hooks: Hooks<S>,
    /// The messages that are for rooms.
    pub(super) targets: Targets,
    classes: Arc<Classes>,
}

type Hook<S> = fn(&mut S, &Ctx);

/// What a studio does when a session comes, goes away, comes back and is over.
pub(super) struct Hooks<S> {
    pub(super) on_sign_in: Hook<S>,
    pub(super) on_moved: Hook<S>,
    pub(super) on_away: Hook<S>,
    pub(super) on_back: Hook<S>,
    pub(super) on_sign_out: Hook<S>,
}

impl<P: Player> Kind<P> {
    /// Players, with the handlers that the studio added.
    pub(crate) fn player(table: Table<P>, classes: Classes) -> Self {
        Self {
            name: PLAYER,
            table,
            load: P::load,
            save: P::save,
            user: P::user,
            hooks: Hooks {
                on_sign_in: P::on_sign_in,
                on_moved: P::on_moved,
                on_away: P::on_away,
                on_back: P::on_back,
                on_sign_out: P::on_sign_out,
            },
            targets: Targets::default(),
            classes: Arc::new(classes),
        }
    }

    /// Players who may sit in such rooms.
    ///
    /// # Panics
    /// When a message has two handlers: which of them would run could not be told.
    pub(crate) fn with_rooms(mut self, kinds: &[Arc<dyn AnyRoomKind>]) -> Self {
        self.targets = Targets::new(kinds);
        for api in self.table.names() {
            let twice = self.targets.has(api);
            assert!(!twice, "players and rooms both have handlers for {api}: keep one of them");
        }
        self
    }
}

/// A kind whose state's type does not matter.
pub(crate) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn apis(&self) -> Vec<String>;
    /// What describes its messages.
    fn schemas(&self) -> &[&'static [u8]];
    fn classes(&self) -> Arc<Classes>;
    /// Makes the entity from its stored state and sets it going.
    fn wake(
        self: Arc<Self>,
        host: &Arc<Host>,
        id: EntityId,
        waking: Waking,
    ) -> Result<Running, LoadError>;
}

/// What a sleeping entity is woken with.
pub(crate) struct Waking {
    pub(super) account: Account,
    pub(super) claim: Claim,
    pub(super) stored: Option<Vec<u8>>,
    /// The session that it had at another node, and what was said in it.
    pub(super) carried: Option<Carried>,
}

impl<S: Send + Sync + 'static> AnyKind for Kind<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn apis(&self) -> Vec<String> {
        let own = self.table.names().iter().map(|n| (*n).to_owned());
        own.chain(self.targets.apis()).collect()
    }

    fn classes(&self) -> Arc<Classes> {
        self.classes.clone()
    }

    fn schemas(&self) -> &[&'static [u8]] {
        self.table.schemas()
    }

    fn wake(
        self: Arc<Self>,
        host: &Arc<Host>,
        id: EntityId,
        waking: Waking,
    ) -> Result<Running, LoadError> {
        let Waking { account, claim, stored, carried } = waking;
        let (world, newest) = (host.world().clone(), Arc::new(AtomicU64::new(0)));
        let mailbox = Mailbox::default();
        let now_ms = world.clock.now_ms();
        let state = catch(|| (self.load)(&account, stored.as_deref(), now_ms))
            .unwrap_or_else(|Panic(text)| Err(LoadError::new(format!("load panicked: {text}"))))?;
        let mut ctx = Ctx::new(
            Writer::new(id, claim, world, stored.as_deref()),
            self.classes.clone(),
            host.meters().loose.clone(),
        );
        let moved = carried.as_ref().map(|carried| carried.said.sent());
        let mut seats = Seats::default();
        let session = carried.map(|Carried { session, said, seats: packed }| {
            seats = Seats::unpack(packed, host, account.id);
            ctx.begin(account, said);
            session
        });
        let resumable = session.as_ref().map_or(0, |session| session.id.0);
        let resumable = Arc::new(AtomicU64::new(resumable));
        let entity = Entity {
            kind: self,
            host: host.clone(),
            state,
            ctx,
            away_until: moved.map(|_| Instant::now() + host.sessions().resume_window),
            session,
            seats,
            connection: None,
            last: 0,
            moved,
            skipped: false,
            newest: newest.clone(),
            resumable: resumable.clone(),
            mailbox: mailbox.clone(),
            streak: 0,
            save_due: None,
            saving: None,
            wrote: false,
            save_failed: false,
            left: false,
            ended: None,
            // Until then somebody signs in, or goes on.
            linger_until: Some(Instant::now() + host.settings().linger.max(SIGN_IN_DEADLINE)),
            rest_at: Instant::now() + REST_AFTER,
            stirred: false,
            rests: false,
            lies: false,
            alarm_at: None,
            home: None,
            timer: None,
            timer_at: None,
            woken_at: None,
        };
        // On the caller's shard: an entity lives beside the connection that woke it.
        Box::new(entity).wake_up();
        Ok(Running { mailbox, newest, resumable })
    }
}
