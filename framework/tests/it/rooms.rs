//! Rooms as clients see them: how they come in, what they hear, how they leave, and what becomes
//! of their seats when connections break.

use std::time::Duration;

use bastide::{
    Code,
    client::{Client, ClientError, Event, Options, Session, SessionError},
    msg,
};
use prost::Message as _;

use crate::{
    square::{heard, number_of, order, words},
    world::{World, echo_of},
};

/// A member: its session, and what it has heard of its room.
struct Member {
    session: Session,
    name: String,
    room: String,
}

fn enter_of(room_id: &str) -> msg::enter_room::Req {
    let (kind, room_id) = ("square".to_owned(), room_id.to_owned());
    msg::enter_room::Req { kind, room_id, ..msg::enter_room::Req::default() }
}

async fn session(world: &World, device: &str) -> Session {
    let gate = world.gate().to_string();
    let token = world.token(device).await;
    let mut session = Session::with_token(&token, &gate, Options::default()).await.unwrap();
    let Event::Push(greeting) = session.next_event().await.unwrap() else { panic!() };
    assert_eq!(greeting.api, "msg.GetItems.Res");
    session
}

async fn ticket(session: &mut Session, room_id: &str) -> msg::enter_room::Res {
    let entered = session.request(&enter_of(room_id)).await.unwrap();
    assert_eq!((entered.code, entered.ticket.len()), (0, 16));
    entered
}

impl Member {
    /// Comes into a room; an empty id: any.
    async fn come(world: &World, name: &str, room_id: &str) -> Self {
        let mut session = session(world, name).await;
        let ticket = ticket(&mut session, room_id).await.ticket;
        let joins = msg::join_room::Req { ticket, name: name.to_owned() };
        let joined = session.request(&joins).await.unwrap();
        Self { session, name: name.to_owned(), room: joined.room_id }
    }

    async fn hears(&mut self, wanted: &str) {
        let push = loop {
            match self.session.next_event().await.unwrap() {
                Event::Push(push) => break push,
                Event::Resumed(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(heard(&push.api, &push.payload), wanted, "{} heard", self.name);
    }

    async fn says(&mut self, what: &str) {
        self.session.input(&words(what)).await.unwrap();
    }

    async fn orders(&mut self, what: &str, with: &str) -> Result<(), Code> {
        refused(self.session.request(&order(what, with)).await.map(drop))
    }

    async fn leaves(&mut self) -> Result<(), Code> {
        let room_id = self.room.clone();
        refused(self.session.request(&msg::leave_room::Req { room_id }).await.map(drop))
    }

    async fn is_told_that_it_is_closed(&mut self, code: Code) {
        let Event::Push(push) = self.session.next_event().await.unwrap() else { panic!() };
        assert_eq!(push.api, "msg.RoomClosed");
        let closed = msg::RoomClosed::decode(push.payload.as_slice()).unwrap();
        assert_eq!((closed.room_id, closed.code), (self.room.clone(), code.0));
    }
}

fn refused<T>(result: Result<T, SessionError>) -> Result<T, Code> {
    result.map_err(|e| match e {
        SessionError::Refused(refusal) => refusal.code,
        other => panic!("{other}"),
    })
}

#[test]
fn members_hear_each_other_once_and_in_order_and_answers_keep_their_place() {
    let world = World::new();
    world.run(async {
        let mut one = Member::come(&world, "one", "").await;
        let mut other = Member::come(&world, "other", &one.room).await;
        one.hears("other joins").await;
        for n in 1..=20 {
            one.says("hello").await;
            let mut before = one.session.send(&echo_of(n)).await.unwrap();
            let mut asked = one.session.send(&number_of()).await.unwrap();
            let mut behind = one.session.send(&echo_of(-n)).await.unwrap();
            assert_eq!(one.session.answer(&mut before).await.unwrap().val, Some(n));
            assert_eq!(i64::from(one.session.answer(&mut asked).await.unwrap().code), n);
            assert_eq!(one.session.answer(&mut behind).await.unwrap().val, Some(-n));
        }
        for n in 1..=20 {
            one.hears(&format!("{n} one hello")).await;
            other.hears(&format!("{n} one hello")).await;
        }
        assert_eq!(other.leaves().await, Ok(()));
        one.hears("other leaves").await;
        assert_eq!(other.leaves().await, Err(Code::NOT_IN_ROOM));
        assert_eq!(refused(other.session.request(&number_of()).await), Err(Code::NOT_IN_ROOM));
        let silent = bastide::def::Mail::default();
        one.session.input(&silent).await.unwrap();
        let Event::Refused { refusal, .. } = one.session.next_event().await.unwrap() else {
            panic!()
        };
        assert_eq!(refusal.code, Code::PARAMETER);
    });
}

#[test]
fn a_ticket_is_good_once_and_only_for_its_account() {
    let world = World::new();
    world.run(async {
        let mut owner = session(&world, "owner").await;
        let mut thief = session(&world, "thief").await;
        let ticket = ticket(&mut owner, "").await.ticket;
        let joins = msg::join_room::Req { ticket, name: "x".repeat(20) };
        assert_eq!(refused(thief.request(&joins).await), Err(Code::TICKET_INVALID));
        let joined = owner.request(&joins).await.unwrap();
        assert_eq!(joined.state, [&0i64.to_le_bytes()[..], &[1]].concat());
        assert_eq!(refused(owner.request(&joins).await), Err(Code::TICKET_INVALID));
        let none = msg::join_room::Req::default();
        assert_eq!(refused(owner.request(&none).await), Err(Code::TICKET_INVALID));
        owner.input(&words("hello")).await.unwrap();
        let Event::Push(push) = owner.next_event().await.unwrap() else { panic!() };
        let cut = format!("1 {} hello", "x".repeat(14));
        assert_eq!(heard(&push.api, &push.payload), cut);
    });
}

/// The flow of the seed s1: the ticket is all that the new connection has.
#[test]
fn of_two_connections_with_one_ticket_one_comes_in_and_takes_the_seat_over() {
    let world = World::new();
    world.run(async {
        let mut witness = Member::come(&world, "witness", "").await;
        let mut before = Member::come(&world, "before", &witness.room).await;
        witness.hears("before joins").await;
        let entered = ticket(&mut before.session, &witness.room).await;
        assert_eq!(entered.room_id, witness.room);
        let mut other = session(&world, "other").await;
        assert_eq!(ticket(&mut other, &witness.room).await.members, 2);
        let joins = msg::join_room::Req { ticket: entered.ticket, name: "after".to_owned() };
        let join = async || {
            let mut client = Client::connect(&entered.addr).await.unwrap();
            let joined = client.request(&joins).await;
            (client, joined)
        };
        let ((one, first), (other, second)) = tokio::join!(join(), join());
        let (mut winner, joined, loser) = match first {
            Ok(joined) => (one, joined, second),
            Err(e) => (other, second.unwrap(), Err(e)),
        };
        let Err(ClientError::Refused(refusal)) = loser else { panic!("{loser:?}") };
        assert_eq!(refusal.code, Code::TICKET_INVALID);
        assert_eq!(joined.room_id, witness.room);
        winner.send(&words("here")).await.unwrap();
        // The seat and its name are those from before.
        witness.hears("before is away").await;
        witness.hears("before is back").await;
        witness.hears("1 before here").await;
        let said = loop {
            let push = winner.receive().await.unwrap();
            if push.api == "def.Mail" {
                break heard(&push.api, &push.payload);
            }
        };
        assert_eq!(said, "1 before here");
        let over = loop {
            match before.session.next_event().await {
                Ok(_) => {}
                Err(over) => break over,
            }
        };
        assert!(matches!(over, SessionError::Lost(_)), "{over}");
        // And a frame of a stranger is not a ticket's.
        let mut stranger = world.connect().await;
        let refused = stranger.request(&number_of()).await;
        assert_eq!(crate::world::code(refused), Code::NOT_SIGNED_IN);
    });
}

#[test]
fn the_same_request_gives_the_same_room_and_a_full_one_makes_way_for_another() {
    let world = World::new();
    world.run(async {
        let mut one = session(&world, "one").await;
        let asks = msg::enter_room::Req { request_id: "r1".to_owned(), ..enter_of("") };
        let first = one.request(&asks).await.unwrap();
        let again = one.request(&asks).await.unwrap();
        assert_eq!(first.room_id, again.room_id);
        assert_ne!(first.ticket, again.ticket);
        let mut others = Vec::new();
        for name in ["two", "three", "four"] {
            others.push(Member::come(&world, name, "").await);
        }
        // The one who has not come yet has a seat all the same.
        assert!(others[..2].iter().all(|other| other.room == first.room_id));
        assert_ne!(others[2].room, first.room_id);
        let full = others[2].session.request(&enter_of(&first.room_id)).await;
        assert_eq!(refused(full), Err(Code::ROOM_FULL));
        assert_eq!(refused(one.request(&enter_of("nowhere")).await), Err(Code::ROOM_NOT_FOUND));
        let kind = "circle".to_owned();
        let circle = msg::enter_room::Req { kind, ..enter_of("") };
        assert_eq!(refused(one.request(&circle).await), Err(Code::ROOM_NOT_FOUND));
        // A room with space serves whoever asks for any; who wants one of its own says so.
        let options = [("refuse", "no"), ("private", "1")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let refusing = msg::enter_room::Req { options, ..enter_of("") };
        let mut five = session(&world, "five").await;
        assert_eq!(refused(five.request(&refusing).await), Err(Code::PARAMETER));
        let joins = msg::join_room::Req { ticket: again.ticket, name: "nobody".to_owned() };
        assert_eq!(refused(one.request(&joins).await), Err(Code::PARAMETER));
    });
}

#[test]
fn a_member_whose_connection_breaks_is_away_keeps_its_seat_and_misses_nothing() {
    let world = World::new();
    world.run(async {
        let proxy = crate::proxy::Proxy::before(world.gate()).await;
        let mut witness = Member::come(&world, "witness", "").await;
        let token = world.token("cut").await;
        let address = proxy.address.to_string();
        let mut cut = Session::with_token(&token, &address, Options::default()).await.unwrap();
        cut.next_event().await.unwrap();
        let entered = ticket(&mut cut, &witness.room).await;
        let joins = msg::join_room::Req { ticket: entered.ticket, name: "cut".to_owned() };
        cut.request(&joins).await.unwrap();
        witness.hears("cut joins").await;
        let mut cut = Member { session: cut, name: "cut".to_owned(), room: entered.room_id };
        for round in 0..5 {
            proxy.cut();
            witness.hears("cut is away").await;
            for n in 1..=10 {
                witness.says("psst").await;
                witness.hears(&format!("{} witness psst", round * 10 + n)).await;
            }
            for n in 1..=10 {
                cut.hears(&format!("{} witness psst", round * 10 + n)).await;
            }
            witness.hears("cut is back").await;
        }
    });
}

/// What goes to the player and what goes to its room, however the connection is cut.
#[test]
fn requests_to_player_and_room_are_done_once_and_in_order_and_the_room_is_heard_once() {
    let world = World::with(&["gate.rate_frames_per_s=0"]);
    world.run(async {
        let proxy = crate::proxy::Proxy::before(world.gate()).await;
        let token = world.token("cut").await;
        let address = proxy.address.to_string();
        let mut cut = Session::with_token(&token, &address, Options::default()).await.unwrap();
        cut.next_event().await.unwrap();
        let ticket = ticket(&mut cut, "").await.ticket;
        let joins = msg::join_room::Req { ticket, name: "cut".to_owned() };
        let room = cut.request(&joins).await.unwrap().room_id;
        let mut said = 0;
        for round in 0..20 {
            let mut asked = Vec::new();
            for nth in 0..10 {
                said += 1;
                cut.input(&words("hello")).await.unwrap();
                let number = cut.send(&number_of()).await.unwrap();
                let echo = cut.send(&echo_of(said)).await.unwrap();
                asked.push((said, number, echo));
                if nth == round % 10 {
                    match round % 4 {
                        0 => proxy.cut(),
                        1 => proxy.cut_down_after(7 + 3 * round),
                        2 => proxy.cut_up_after(5 + 3 * round),
                        _ => cut.hang_up(),
                    }
                }
            }
            for (nth, mut number, mut echo) in asked {
                let number = cut.answer(&mut number).await.unwrap();
                assert_eq!(i64::from(number.code), nth, "what was said before was heard once");
                assert_eq!(cut.answer(&mut echo).await.unwrap().val, Some(nth));
            }
        }
        let mut cut = Member { session: cut, name: "cut".to_owned(), room };
        for n in 1..=said {
            cut.hears(&format!("{n} cut hello")).await;
        }
        assert!(proxy.taken() > 10, "{} connections", proxy.taken());
    });
}

#[test]
fn a_room_that_closes_answers_everything_that_was_asked_of_it_once() {
    let world = World::with(&["gate.rate_frames_per_s=0"]);
    world.run(async {
        let mut one = Member::come(&world, "one", "").await;
        for round in 0..10 {
            let before = one.session.send(&number_of()).await.unwrap();
            let closing = one.session.send(&order("close", "")).await.unwrap();
            let mut behind = Vec::new();
            for nth in 0..20 {
                let number = one.session.send(&number_of()).await.unwrap();
                let echo = one.session.send(&echo_of(nth)).await.unwrap();
                behind.push((nth, number, echo));
            }
            if round % 2 == 0 {
                one.session.hang_up();
            }
            let (mut before, mut closing) = (before, closing);
            assert_eq!(one.session.answer(&mut before).await.unwrap().code, 0);
            assert_eq!(one.session.answer(&mut closing).await.unwrap().code, 0);
            for (nth, mut number, mut echo) in behind {
                let late = refused(one.session.answer(&mut number).await.map(drop)).unwrap_err();
                let why = [Code::ROOM_CLOSED, Code::NOT_IN_ROOM, Code::NOT_CONNECTED];
                assert!(why.contains(&late), "{late}");
                assert_eq!(one.session.answer(&mut echo).await.unwrap().val, Some(nth));
            }
            let closed = loop {
                if let Event::Push(push) = one.session.next_event().await.unwrap() {
                    break push;
                }
            };
            assert_eq!(closed.api, "msg.RoomClosed");
            let ticket = ticket(&mut one.session, "").await.ticket;
            let joins = msg::join_room::Req { ticket, name: "one".to_owned() };
            one.room = one.session.request(&joins).await.unwrap().room_id;
        }
        assert_eq!(one.leaves().await, Ok(()));
    });
}

#[test]
fn a_member_that_signs_out_leaves_its_seat_and_one_that_stays_away_loses_it() {
    let world = World::with(&["session.resume_window=1s"]);
    world.run(async {
        let mut witness = Member::come(&world, "witness", "").await;
        let mut leaver = Member::come(&world, "leaver", &witness.room).await;
        witness.hears("leaver joins").await;
        leaver.session.logout().await.unwrap();
        witness.hears("leaver leaves").await;
        let gone = Member::come(&world, "gone", &witness.room).await;
        witness.hears("gone joins").await;
        drop(gone);
        witness.hears("gone is away").await;
        witness.hears("gone leaves").await;
    });
}

#[test]
fn a_seat_that_a_newer_session_does_not_take_over_is_lost_like_any_that_is_left_alone() {
    let world = World::with(&["session.resume_window=1s"]);
    world.run(async {
        let mut witness = Member::come(&world, "witness", "").await;
        let _before = Member::come(&world, "twice", &witness.room).await;
        witness.hears("twice joins").await;
        // It signs in anew, and does something else.
        let mut after = session(&world, "twice").await;
        witness.hears("twice is away").await;
        witness.hears("twice leaves").await;
        assert_eq!(after.request(&echo_of(7)).await.unwrap().val, Some(7));
    });
}

#[test]
fn who_is_told_more_at_once_than_its_player_keeps_loses_its_seat_and_the_room_knows() {
    let world = World::new();
    world.run(async {
        let mut witness = Member::come(&world, "witness", "").await;
        let mut deaf = Member::come(&world, "deaf", &witness.room).await;
        witness.hears("deaf joins").await;
        assert_eq!(deaf.orders("shout at me", "").await, Err(Code::TOO_SLOW));
        deaf.is_told_that_it_is_closed(Code::TOO_SLOW).await;
        witness.hears("deaf leaves").await;
        // It may come again.
        let again = ticket(&mut deaf.session, &witness.room).await.ticket;
        let joins = msg::join_room::Req { ticket: again, name: "deaf".to_owned() };
        assert_eq!(deaf.session.request(&joins).await.unwrap().room_id, witness.room);
        witness.hears("deaf joins").await;
    });
}

#[test]
fn rooms_are_listed_unless_they_are_private_and_let_nobody_in_while_they_are_locked() {
    let world = World::new();
    world.run(async {
        let mut one = Member::come(&world, "one", "").await;
        assert_eq!(one.orders("info", "blue").await, Ok(()));
        let list = msg::list_rooms::Req { kind: "square".to_owned(), ..Default::default() };
        let blue = [("colour".to_owned(), "blue".to_owned())].into();
        let blue = msg::list_rooms::Req { filter: blue, ..list.clone() };
        let red = [("colour".to_owned(), "red".to_owned())].into();
        let red = msg::list_rooms::Req { filter: red, ..list.clone() };
        crate::world::until("it is blue in the list", async || {
            one.session.request(&blue).await.unwrap().rooms.len() == 1
        })
        .await;
        let listed = one.session.request(&blue).await.unwrap().rooms.remove(0);
        assert_eq!((listed.room_id, listed.members, listed.capacity), (one.room.clone(), 1, 3));
        assert_eq!(one.session.request(&red).await.unwrap().rooms.len(), 0);
        let mut other = session(&world, "other").await;
        let options = [("private".to_owned(), "1".to_owned())].into();
        let private = msg::enter_room::Req { options, ..enter_of("") };
        let hidden = other.request(&private).await.unwrap();
        assert_ne!(hidden.room_id, one.room);
        let rooms = other.request(&list).await.unwrap().rooms;
        assert!(rooms.iter().all(|room| room.room_id != hidden.room_id), "{rooms:?}");
        let invited = one.session.request(&enter_of(&hidden.room_id)).await.unwrap();
        assert_eq!(invited.room_id, hidden.room_id);
        let joins = msg::join_room::Req { ticket: invited.ticket, name: "one".to_owned() };
        assert_eq!(refused(one.session.request(&joins).await), Err(Code::ALREADY_IN_ROOM));
        assert_eq!(one.orders("lock", "").await, Ok(()));
        // Whoever was let in before it was known has a seat, and gets it again.
        let mut others = 0;
        crate::world::until("it is locked", async || {
            others += 1;
            let mut third = session(&world, &format!("third-{others}")).await;
            refused(third.request(&enter_of(&one.room)).await) == Err(Code::ROOM_FULL)
        })
        .await;
    });
}

#[test]
fn players_of_a_like_rating_are_matched_and_parties_come_together() {
    let world = World::new();
    world.run(async {
        let wish = |rating, party: &str| msg::match_room::Req {
            kind: "square".to_owned(),
            rating,
            party: party.to_owned(),
            party_size: if party.is_empty() { 0 } else { 2 },
            ..Default::default()
        };
        let wishes = [
            ("low", wish(1000, "")),
            ("high", wish(3000, "")),
            ("low too", wish(1010, "")),
            ("pair", wish(5000, "p")),
            ("pair too", wish(5000, "p")),
        ];
        let mut sessions = Vec::new();
        for (device, wish) in wishes {
            let mut session = session(&world, device).await;
            assert_eq!(session.request(&wish).await.unwrap().code, 0);
            sessions.push(session);
        }
        let mut rooms = Vec::new();
        for at in [0, 2, 3, 4] {
            let Event::Push(push) = sessions[at].next_event().await.unwrap() else { panic!() };
            assert_eq!(push.api, "msg.Matched");
            let matched = msg::Matched::decode(push.payload.as_slice()).unwrap();
            assert_eq!(matched.code, 0);
            let joins = msg::join_room::Req { ticket: matched.ticket, name: "m".to_owned() };
            let joined = sessions[at].request(&joins).await.unwrap();
            assert_eq!(joined.room_id, matched.room_id);
            rooms.push(joined.room_id);
        }
        assert!(rooms[0] == rooms[1] && rooms[2] == rooms[3] && rooms[0] != rooms[2], "{rooms:?}");
        let cancels = msg::cancel_match::Req { kind: "square".to_owned() };
        assert_eq!(sessions[1].request(&cancels).await.unwrap().code, 0);
    });
}

#[test]
fn a_room_takes_seats_away_survives_a_panic_and_says_why_it_closes() {
    let world = World::new();
    world.run(async {
        let mut one = Member::come(&world, "one", "").await;
        let mut other = Member::come(&world, "other", &one.room).await;
        one.hears("other joins").await;
        assert_eq!(one.orders("panic", "").await, Err(Code::INTERNAL));
        assert_eq!(one.orders("dance", "").await, Err(Code(10_002)));
        assert_eq!(other.orders("remove me", "").await, Ok(()));
        other.is_told_that_it_is_closed(Code(10_001)).await;
        one.hears("other leaves").await;
        assert_eq!(one.orders("close", "").await, Ok(()));
        one.is_told_that_it_is_closed(Code::ROOM_CLOSED).await;
        assert_eq!(one.orders("dance", "").await, Err(Code::NOT_IN_ROOM));
        crate::world::until("nobody finds it", async || {
            refused(other.session.request(&enter_of(&one.room)).await) == Err(Code::ROOM_NOT_FOUND)
        })
        .await;
        let mut next = Member::come(&world, "one", "").await;
        assert_ne!(next.room, one.room);
        next.session.rest(Duration::from_millis(1)).await.unwrap();
    });
}
