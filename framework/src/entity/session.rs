//! Owns what outlives a connection: which frames of a client its player has taken, which it has
//! said, and the last of those as bytes. Whichever gate carries the session, each frame is taken
//! once and said once, in order.
//!
//! Both ends count: what the client sends and what it receives after `msg.Login.Res`, leaving out
//! `msg.Ping.*`, `msg.Resume.*`, `msg.Kick.Res` and what travels beside the stream. A count is all
//! that a client and its player must agree on to go on.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    limits::{
        REPLAY_BYTES_BEHIND_MAX, REPLAY_BYTES_FREE, REPLAY_BYTES_KEPT, REPLAY_BYTES_SILENT_MAX,
    },
    link::{Batch, ConnectionId, Frames, Mark, Secret, SessionId},
    proto::link as proto,
};

/// A signed-in client, as its player knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) openid: String,
    /// The sign-in that its token belongs to.
    pub(super) sid: String,
    /// Frames of the client that were taken.
    pub(super) received: u64,
    /// The connection that it had when its player left another node: that one may follow without
    /// a secret, until somebody has gone on with the session.
    pub(super) follower: Option<ConnectionId>,
    proof: Proof,
}

/// What a client shows to go on.
///
/// Each resume hands out a new secret. Those before are good as long as the client has not shown
/// that it got the new one, for the answer that carried it may have been lost with its connection;
/// and a try that the client has given up may be late, and come behind the one that it goes on
/// with.
#[derive(Debug)]
struct Proof {
    secret: Secret,
    /// The newest last, at most [`SECRETS_BEFORE_MAX`].
    before: Vec<Secret>,
}

/// Secrets before the newest one that may be good. Beyond: the oldest is not, unless it
/// is the one that the client shows.
const SECRETS_BEFORE_MAX: usize = 4;

impl Session {
    pub(super) fn new(id: SessionId, openid: String, sid: String, secret: Secret) -> Self {
        let proof = Proof { secret, before: Vec::new() };
        Self { id, openid, sid, received: 0, follower: None, proof }
    }

    /// What the client must show to go on.
    pub(super) fn secret(&self) -> Secret {
        self.proof.secret
    }

    /// Whether this is its client.
    pub(super) fn is_known_by(&self, id: SessionId, secret: Secret) -> bool {
        let Proof { secret: newest, before } = &self.proof;
        self.id == id && (*newest == secret || before.contains(&secret))
    }

    /// The client showed a secret that is good, and gets another. It may show the same again,
    /// however many answers are lost.
    pub(super) fn renew(&mut self, shown: Secret, next: Secret) {
        let Proof { secret, before } = &mut self.proof;
        if before.len() == SECRETS_BEFORE_MAX {
            let oldest_unneeded = before.iter().position(|s| *s != shown).unwrap_or_default();
            before.remove(oldest_unneeded);
        }
        before.push(std::mem::replace(secret, next));
    }

    /// A frame of the client is taken. That it speaks shows that it has the newest secret.
    #[inline]
    pub(super) fn take(&mut self) {
        self.received += 1;
        self.proof.before = Vec::new();
    }
}

/// What was said to a client: how many frames, and the last of them.
#[derive(Debug)]
pub(super) struct Said {
    /// Frames that were said.
    sent: u64,
    /// The last of them, whole, each behind its mark.
    replay: VecDeque<u8>,
    /// Where it may be cut: forgetting looks at none of its bytes, which are in no cache by then.
    pieces: VecDeque<Piece>,
    /// How many frames lie there.
    kept: u64,
    /// What the client has told of; it is never asked for again.
    acknowledged: u64,
    /// The client tells what it has received: it means to resume, and may keep more waiting.
    reports: bool,
    /// It does not take in what it is told, or is away: much may be missing when it is back.
    behind: bool,
    /// Bytes that may lie there now.
    granted: usize,
    room: ReplayRoom,
}

/// Some frames of a replay, side by side; they are forgotten together.
#[derive(Clone, Copy, Debug)]
struct Piece {
    bytes: u32,
    frames: u32,
}

/// A piece of so many bytes takes no more frames: what is lost at most beyond the oldest frame.
const PIECE_BYTES: u32 = 512;

/// How much may be kept for replay.
#[derive(Clone, Debug)]
pub(crate) struct ReplayRoom {
    /// For one client that tells what it has received.
    bytes_max: usize,
    /// What is left for all of a node beyond [`REPLAY_BYTES_FREE`] each.
    left: Arc<AtomicUsize>,
}

impl ReplayRoom {
    pub(crate) fn new(bytes_max: usize, bytes_total_max: usize) -> Self {
        Self { bytes_max, left: Arc::new(AtomicUsize::new(bytes_total_max)) }
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Said {
    pub(super) fn new(room: ReplayRoom) -> Self {
        Self {
            sent: 0,
            replay: VecDeque::new(),
            pieces: VecDeque::new(),
            kept: 0,
            acknowledged: 0,
            reports: false,
            behind: false,
            granted: REPLAY_BYTES_FREE,
            room,
        }
    }

    /// Whether the client takes in what it is told from now on.
    pub(super) fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// How many frames were said that count.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Remembers what is said now, as far as it counts.
    #[inline]
    pub(super) fn say(&mut self, frames: Frames<'_>) {
        let bytes = frames.bytes();
        // Frames that count and lie side by side are copied at once.
        let (mut begin, mut at) = (0, 0);
        for (mark, len) in frames.spans() {
            if mark.counts_as_sent() {
                self.sent += 1;
                self.kept += 1;
                self.note(len);
            } else {
                self.keep(&bytes[begin..at]);
                begin = at + len;
            }
            at += len;
        }
        self.keep(&bytes[begin..at]);
    }

    #[inline]
    fn note(&mut self, bytes: usize) {
        // A frame is far smaller.
        let bytes = bytes as u32;
        match self.pieces.back_mut() {
            Some(piece) if piece.bytes < PIECE_BYTES => {
                piece.bytes += bytes;
                piece.frames += 1;
            }
            _ => self.pieces.push_back(Piece { bytes, frames: 1 }),
        }
    }

    #[inline]
    fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let needed = self.replay.len() + bytes.len();
        if needed > self.granted {
            self.grow(needed);
        }
        self.fit(bytes, self.granted);
    }

    /// Appends, and forgets the oldest until no more than `bytes_max` lie there; before, so that
    /// no more is allocated.
    fn fit(&mut self, bytes: &[u8], bytes_max: usize) {
        let (whole, mut forgotten) = (self.replay.len() + bytes.len(), 0);
        while whole - forgotten > bytes_max
            && let Some(piece) = self.pieces.pop_front()
        {
            forgotten += piece.bytes as usize;
            self.kept -= u64::from(piece.frames);
        }
        let old = forgotten.min(self.replay.len());
        self.replay.drain(..old);
        self.replay.extend(&bytes[forgotten - old..]);
    }

    /// Asks for more room, up to what this client may have.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let max = match (self.reports, self.behind) {
            (true, _) => self.room.bytes_max,
            (false, true) => REPLAY_BYTES_BEHIND_MAX,
            (false, false) => REPLAY_BYTES_SILENT_MAX,
        };
        let wanted = needed.next_power_of_two().min(max).max(self.granted);
        if wanted > self.granted && self.room.take(wanted - self.granted) {
            self.granted = wanted;
        }
    }

    fn forget_all(&mut self) {
        self.kept = 0;
        self.replay.clear();
        self.pieces.clear();
        if self.replay.capacity() > REPLAY_BYTES_KEPT {
            (self.replay, self.pieces) = (VecDeque::new(), VecDeque::new());
            self.room.give_back(self.granted - REPLAY_BYTES_FREE);
            self.granted = REPLAY_BYTES_FREE;
        }
    }

    /// Keeps no more room than it needs.
    pub(super) fn shrink(&mut self) {
        self.replay.shrink_to_fit();
        self.pieces.shrink_to_fit();
    }

    /// The client has received so many frames: those need not be kept. A number that cannot be is
    /// ignored.
    pub(super) fn acknowledge(&mut self, received: u64) {
        if received == 0 || received > self.sent {
            return;
        }
        self.reports = true;
        self.acknowledged = self.acknowledged.max(received);
        if self.acknowledged == self.sent {
            return self.forget_all();
        }
        let (mut bytes, needed) = (0, self.sent - self.acknowledged);
        while let Some(piece) = self.pieces.front()
            && self.kept - u64::from(piece.frames) >= needed
        {
            bytes += piece.bytes as usize;
            self.kept -= u64::from(piece.frames);
            self.pieces.pop_front();
        }
        self.replay.drain(..bytes);
    }

    /// What a client misses that has received so many frames; `None` when some of it is gone, or
    /// the number cannot be.
    pub(super) fn missed(&mut self, received: u64) -> Option<Batch> {
        let missed = self.sent.checked_sub(received)?;
        if missed > self.kept || received < self.acknowledged {
            return None;
        }
        let mut batch = Batch::default();
        for (_, frame) in self.last(missed) {
            batch.push(Mark::Plain, frame.bytes);
        }
        Some(batch)
    }

    /// The last so many of the frames that lie there.
    fn last(&mut self, frames: u64) -> Frames<'_> {
        let skipped = usize::try_from(self.kept - frames).unwrap_or(usize::MAX);
        let replay = Frames::over(self.replay.make_contiguous());
        let begin = replay.spans().take(skipped).map(|(_, len)| len).sum();
        Frames::over(replay.bytes().get(begin..).unwrap_or_default())
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.room.give_back(self.granted - REPLAY_BYTES_FREE);
    }
}

// === On the way to another node ===

/// A session and what was said in it, as it travels. Of the replay the last `bytes_max` bytes go
/// along: a client that misses more must sign in again.
pub(super) fn pack(session: &Session, said: &mut Said, bytes_max: usize) -> proto::Session {
    said.fit(&[], bytes_max);
    let needed = (said.sent - said.acknowledged).min(said.kept);
    let replay = said.last(needed).bytes().to_vec();
    let Session { id, openid, sid, received, follower, proof } = session;
    let Proof { secret, before } = proof;
    proto::Session {
        session: id.0,
        openid: openid.clone(),
        sid: sid.clone(),
        received: *received,
        sent: said.sent,
        replay,
        secret: secret.to_bytes().to_vec(),
        secret_before: before.iter().flat_map(|s| s.to_bytes()).collect(),
        connection: follower.map_or(0, |connection| connection.0),
        seats: Vec::new(),
    }
}

/// What came from another node.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) session: Session,
    pub(super) said: Said,
    /// Its seats in rooms.
    pub(super) seats: Vec<proto::Seating>,
}

/// The same on arrival; `None` when it is none.
pub(super) fn unpack(packed: proto::Session, room: ReplayRoom) -> Option<Carried> {
    let before = packed.secret_before.chunks_exact(16).filter_map(Secret::from_bytes).collect();
    let proof = Proof { secret: Secret::from_bytes(&packed.secret)?, before };
    let (id, received) = (SessionId(packed.session), packed.received);
    let (openid, sid) = (packed.openid, packed.sid);
    let follower = Some(ConnectionId(packed.connection)).filter(|connection| connection.0 != 0);
    let session = Session { id, openid, sid, received, follower, proof };
    let mut said = Said::new(room);
    said.reports = true;
    said.say(Frames::over(&packed.replay));
    said.sent = packed.sent;
    Some(Carried { session, said, seats: packed.seats })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::msg;

    fn frames(from: u64, to: u64, mark: Mark) -> Batch {
        let mut batch = Batch::default();
        for n in from..=to {
            let val = i64::try_from(n).ok();
            batch.push_message(mark, &msg::echo::Res { val, ct: None }).expect("fits");
        }
        batch
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        let number = |payload: &[u8]| {
            let echo = <msg::echo::Res as prost::Message>::decode(payload).expect("an echo");
            u64::try_from(echo.val.unwrap_or_default()).expect("positive")
        };
        batch.frames().map(|(_, frame)| number(frame.payload)).collect()
    }

    fn room() -> ReplayRoom {
        ReplayRoom::new(1 << 20, (1 << 20) - REPLAY_BYTES_FREE)
    }

    #[test]
    fn what_a_client_misses_is_what_it_has_not_received_and_nothing_else() {
        let mut said = Said::new(room());
        said.say(frames(1, 5, Mark::Answer).frames());
        said.say(frames(99, 99, Mark::Ping).frames());
        said.say(frames(6, 7, Mark::Plain).frames());
        let missed = |said: &mut Said, received| said.missed(received).map(|b| numbers(&b));
        assert_eq!(missed(&mut said, 0), Some((1..=7).collect()));
        assert_eq!(missed(&mut said, 7), Some(vec![]));
        assert_eq!(missed(&mut said, 8), None, "it cannot have received that");
        said.acknowledge(4);
        assert_eq!(missed(&mut said, 4), Some(vec![5, 6, 7]));
        assert_eq!(missed(&mut said, 3), None, "that is gone");
        said.acknowledge(100);
        assert_eq!(missed(&mut said, 5), Some(vec![6, 7]));
    }

    #[test]
    fn who_never_reports_keeps_little_and_who_does_keeps_more_as_long_as_there_is_room() {
        let (one, mut said) = (frames(1, 100, Mark::Plain), Said::new(room()));
        let fill = |said: &mut Said| (0..1000).for_each(|_| said.say(one.frames()));
        fill(&mut said);
        assert!(said.replay.len() <= REPLAY_BYTES_SILENT_MAX, "{}", said.replay.len());
        assert!(said.replay.len() > REPLAY_BYTES_SILENT_MAX - 600, "{}", said.replay.len());
        said.set_behind(true);
        (0..4).for_each(|_| fill(&mut said));
        assert!(said.replay.len() <= REPLAY_BYTES_BEHIND_MAX, "{}", said.replay.len());
        assert!(said.replay.len() > REPLAY_BYTES_BEHIND_MAX - 600, "{}", said.replay.len());
        said.set_behind(false);
        said.acknowledge(1);
        (0..4).for_each(|_| fill(&mut said));
        assert!(said.replay.len() > REPLAY_BYTES_BEHIND_MAX * 3, "{}", said.replay.len());
        let mut other = Said::new(said.room.clone());
        fill(&mut other);
        assert!(other.replay.len() <= REPLAY_BYTES_FREE, "the node has no more room");
        said.acknowledge(said.sent);
        assert_eq!((said.kept, said.granted), (0, REPLAY_BYTES_FREE));
        fill(&mut other);
        assert!(other.replay.len() > REPLAY_BYTES_FREE, "there is room again");
        let left = said.room.left.clone();
        drop((said, other));
        assert_eq!(left.load(Ordering::Relaxed), (1 << 20) - REPLAY_BYTES_FREE);
    }

    #[test]
    fn a_secret_is_good_until_a_later_one_was_used() {
        let mut session = Session::new(SessionId(1), String::new(), String::new(), Secret(10));
        assert!(session.is_known_by(SessionId(1), Secret(10)));
        assert!(
            !session.is_known_by(SessionId(2), Secret(10))
                && !session.is_known_by(SessionId(1), Secret(11))
        );
        session.renew(Secret(10), Secret(20));
        assert!(session.is_known_by(SessionId(1), Secret(10)), "the answer may have been lost");
        session.renew(Secret(10), Secret(30));
        assert!(session.is_known_by(SessionId(1), Secret(20)), "the client may go on with that");
        (0..10).for_each(|n| session.renew(Secret(10), Secret(40 + n)));
        assert!(!session.is_known_by(SessionId(1), Secret(20)), "few are kept");
        assert!(session.is_known_by(SessionId(1), Secret(10)), "it never heard of another");
        session.renew(Secret(10), Secret(30));
        session.take();
        assert!(
            !session.is_known_by(SessionId(1), Secret(10))
                && session.is_known_by(SessionId(1), Secret(30))
        );
    }

    proptest! {
        #[test]
        fn a_session_is_the_same_after_it_has_travelled(
            said_frames in 0u64..40, received in 0u64..9, acknowledged in 0u64..40, renewed: bool,
            connection: u64,
        ) {
            let mut session = Session::new(SessionId(3), "o".into(), "s".into(), Secret(1 << 100));
            (0..received).for_each(|_| session.take());
            if renewed {
                session.renew(Secret(1 << 100), Secret(5));
                session.renew(Secret(5), Secret(6));
            }
            session.follower = Some(ConnectionId(connection)).filter(|c| c.0 != 0);
            let mut said = Said::new(room());
            said.say(frames(1, said_frames, Mark::Answer).frames());
            said.acknowledge(acknowledged);
            let packed = pack(&session, &mut said, 1 << 20);
            let Carried { session: back, said: mut said_back, .. } =
                unpack(packed, room()).expect("a session");
            prop_assert_eq!(format!("{session:?}"), format!("{back:?}"));
            for n in 0..=said_frames + 1 {
                let (a, b) = (said.missed(n), said_back.missed(n));
                prop_assert_eq!(a.map(|b| numbers(&b)), b.map(|b| numbers(&b)));
            }
        }

        #[test]
        fn nothing_that_was_not_acknowledged_is_missing_up_to_the_limit(
            steps in prop::collection::vec((1u64..50, 0u64..60), 1..40),
        ) {
            let (mut said, mut sent, mut acknowledged) = (Said::new(room()), 0u64, 0u64);
            for (more, ack) in steps {
                said.say(frames(sent + 1, sent + more, Mark::Plain).frames());
                sent += more;
                acknowledged = acknowledged.max((acknowledged + ack).min(sent));
                said.acknowledge(acknowledged);
                let missed = said.missed(acknowledged).map(|b| numbers(&b));
                prop_assert_eq!(missed, Some((acknowledged + 1..=sent).collect()));
            }
        }
    }
}
