//! One account, two gates, one game server: whatever happens in whatever order, one session is
//! there, and it is the right one.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    tests::{Ear, Node, node, requests, soon, until},
    *,
};

/// What can happen to an account that signs in twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    SignInA,
    SignInB,
    /// The first connection of A ends, perhaps late.
    CloseA,
    /// A is ended by somebody else: removed, or its token revoked.
    KickA,
    /// A goes on over another gate.
    ResumeA,
}

const EVENTS: [Event; 5] =
    [Event::SignInA, Event::SignInB, Event::CloseA, Event::KickA, Event::ResumeA];

/// Who may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nobody,
    /// A over its first connection, over its second, or without one.
    A(Option<u64>),
    B,
}

/// What should be, told by the rules alone.
fn expected(there: There, event: Event) -> There {
    match (there, event) {
        (_, Event::SignInA) => There::A(Some(FIRST)),
        (_, Event::SignInB) => There::B,
        (There::A(Some(FIRST)), Event::CloseA) => There::A(None),
        (There::A(_), Event::KickA) => There::Nobody,
        (There::A(_), Event::ResumeA) => There::A(Some(SECOND)),
        (there, Event::CloseA | Event::KickA | Event::ResumeA) => there,
    }
}

const FIRST: u64 = 1;
const SECOND: u64 = 2;
const OTHER: u64 = 3;

/// The cluster, and what the gates know.
struct Cluster {
    gates: [Node; 2],
    game: Node,
}

#[derive(Default)]
struct Seen {
    /// Added to the numbers of connections: several of a kind at once are told apart.
    nth: u64,
    /// What A's client holds: its session and its secret.
    a: Option<(SessionId, Secret)>,
    connections: Vec<(u64, EntityPort, Arc<Ear>)>,
}

impl Cluster {
    async fn new() -> Self {
        let (one, two) = (node("c", "one", None).await, node("c", "two", None).await);
        Self { gates: [one, two], game: node("c", "game", None).await }
    }

    async fn attach(&self, seen: &mut Seen, account: i64, connection: u64, entry: Entry) -> bool {
        let ear = Arc::new(Ear::default());
        let number = connection + seen.nth;
        let seeking = Seeking {
            connection: own(account, number),
            account,
            end: ear.clone(),
            entry,
            datagram_bytes_max: 0,
        };
        let gate = &self.gates[usize::from(connection == SECOND)];
        let Ok((port, attached)) = gate.links.attach(&self.game.info, &seeking, soon()).await
        else {
            return false;
        };
        if connection != OTHER {
            seen.a = Some((attached.session, attached.secret));
        }
        seen.connections.push((number, port, ear));
        true
    }

    async fn happen(&self, seen: &mut Seen, account: i64, event: Event) {
        let sign_in = |sid: &str| Entry::SignIn { openid: "o".into(), sid: sid.into() };
        match event {
            Event::SignInA => drop(self.attach(seen, account, FIRST, sign_in("a")).await),
            Event::SignInB => drop(self.attach(seen, account, OTHER, sign_in("b")).await),
            Event::CloseA => {
                if let Some((.., port, _)) = seen.connections.iter().find(|(c, ..)| *c == FIRST) {
                    port.detach(own(account, FIRST), &self.gates[0].tasks);
                }
            }
            Event::KickA => {
                let (sid, reason) = (Some("a".to_owned()), "removed".to_owned());
                let end = End { sid, code: Code::REMOVED, reason };
                self.game.host.end_session(account, end).await;
            }
            Event::ResumeA => {
                if let Some((session, secret)) = seen.a {
                    let entry = Entry::Resume { session, secret, received: 0 };
                    self.attach(seen, account, SECOND, entry).await;
                }
            }
        }
    }

    /// Which connections are answered.
    async fn answered(seen: &Seen, account: i64) -> Vec<u64> {
        let mut answered = Vec::new();
        for (connection, port, ear) in &seen.connections {
            let heard = || ear.heard.lock().expect("unpoisoned").clone();
            let before = heard().len();
            let id = own(account, *connection);
            port.forward(id, Instant::now(), soon(), &mut requests(&[1])).expect("sent");
            let over = |heard: &[String]| heard.iter().any(|h| h.starts_with("kicked"));
            until(|| over(&heard()) || heard().len() > before).await;
            if heard()[before..].iter().any(|h| h == "Answer msg.Echo.Res") && !over(&heard()) {
                answered.push(*connection);
            }
        }
        answered
    }
}

/// Connections are drawn at random; here they tell whose they are.
fn own(account: i64, connection: u64) -> ConnectionId {
    ConnectionId(account.unsigned_abs() * 100 + connection)
}

fn permutations(events: &[Event]) -> Vec<Vec<Event>> {
    if events.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (n, first) in events.iter().enumerate() {
        let rest = [&events[..n], &events[n + 1..]].concat();
        for mut tail in permutations(&rest) {
            tail.insert(0, *first);
            all.push(tail);
        }
    }
    all
}

#[tokio::test]
async fn in_whatever_order_the_right_session_is_there_and_no_other_is_answered() {
    let cluster = Cluster::new().await;
    for (order, account) in permutations(&EVENTS).into_iter().zip(100..) {
        let (mut seen, mut there) = (Seen::default(), There::Nobody);
        for event in &order {
            cluster.happen(&mut seen, account, *event).await;
            let a_was_here = seen.a.is_some();
            if a_was_here || !matches!(event, Event::ResumeA) {
                there = expected(there, *event);
            }
        }
        let expected = match there {
            There::Nobody | There::A(None) => vec![],
            There::A(Some(connection)) => vec![connection],
            There::B => vec![OTHER],
        };
        assert_eq!(Cluster::answered(&seen, account).await, expected, "{order:?}");
    }
}

/// The same all at once: who comes first is chance, but two are never there.
#[tokio::test]
async fn of_sign_ins_resumes_a_close_and_a_kick_at_once_one_connection_is_left_at_most() {
    let cluster = Cluster::new().await;
    let at_once = [Event::SignInB, Event::KickA, Event::ResumeA, Event::ResumeA, Event::SignInB];
    for (order, account) in permutations(&at_once).into_iter().zip(1000..) {
        let mut first = Seen::default();
        cluster.happen(&mut first, account, Event::SignInA).await;
        let known = first.a;
        let at_once = order.iter().zip(1..).map(|(event, n)| {
            let (cluster, connections) = (&cluster, Vec::new());
            let mut seen = Seen { nth: n * 10, a: known, connections };
            async move {
                cluster.happen(&mut seen, account, *event).await;
                seen.connections
            }
        });
        let close = cluster.happen(&mut first, account, Event::CloseA);
        let (others, ()) = tokio::join!(futures_util::future::join_all(at_once), close);
        first.connections.extend(others.into_iter().flatten());
        let answered = Cluster::answered(&first, account).await;
        assert!(answered.len() <= 1, "{order:?}: {answered:?}");
    }
}
