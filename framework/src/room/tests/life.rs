//! The life of a room, on a clock of its own: ticks, members that come and go, ends.

use super::*;
use crate::{limits::ROOM_LINGER, room::book::Seating};

const SPAN: Duration = Duration::from_millis(50);

fn ticks(guest: &Guest) -> Vec<i64> {
    let tick = |heard| match heard {
        Heard::News(news::TICK, ms) => Some(ms),
        _ => None,
    };
    guest.heard().into_iter().filter_map(tick).collect()
}

#[tokio::test(start_paused = true)]
async fn a_room_ticks_at_its_rate_and_nothing_adds_up() {
    let server = Server::alone();
    // Spans of 16⅔ ms, on a timer of whole ones.
    let guest = Guest::joined(1, &server.open(hall().ticks(60))).await;
    sleep(Duration::from_secs(100)).await;
    let ticks = ticks(&guest);
    // The first comes within a span, and the last may be a moment late.
    assert!((5998..=6000).contains(&ticks.len()), "{}", ticks.len());
    assert!(ticks.iter().all(|ms| *ms == 16));
    assert_eq!(server.meter("room_ticks_late_total"), 0);
    assert_eq!(server.meter("room_ticks_left_out_total"), 0);
    assert!(server.meter("room_tick_seconds_count") >= ticks.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn ticks_that_come_too_late_are_left_out_and_the_next_is_told() {
    let server = Server::alone();
    let guest = Guest::joined(1, &server.open(hall().ticks(20))).await;
    sleep(SPAN * 2).await;
    rest().await;
    let began = ticks(&guest).len();
    tokio::time::advance(SPAN * 10).await;
    rest().await;
    assert_eq!(ticks(&guest), [500], "after {began}");
    sleep(SPAN * 3).await;
    rest().await;
    assert_eq!(ticks(&guest), [50, 50, 50]);
    assert_eq!(server.meter("room_ticks_late_total"), 1);
    assert_eq!(server.meter("room_ticks_left_out_total"), 9);
}

#[tokio::test(start_paused = true)]
async fn ticks_that_come_too_late_are_made_up_for_where_the_kind_wants_it() {
    let server = Server::alone();
    let kind = hall().ticks(20).overrun(Overrun::CatchUp);
    let guest = Guest::joined(1, &server.open(kind)).await;
    sleep(SPAN * 2).await;
    rest().await;
    ticks(&guest);
    tokio::time::advance(SPAN * 10).await;
    rest().await;
    assert_eq!(ticks(&guest), [50; 10]);
    assert_eq!(server.meter("room_ticks_left_out_total"), 0);
    // No more than a second of them.
    tokio::time::advance(Duration::from_secs(5)).await;
    for _ in 0..5 {
        rest().await;
    }
    assert_eq!(ticks(&guest), [50; 21]);
    assert_eq!(server.meter("room_ticks_left_out_total"), 79);
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_ticks_are_all_late_hears_its_members_all_the_same() {
    let server = Server::alone();
    let kind = hall().ticks(20).overrun(Overrun::CatchUp);
    let guest = Guest::joined(1, &server.open(kind)).await;
    sleep(SPAN * 2).await;
    rest().await;
    guest.heard();
    guest.ask(1);
    guest.ask(2);
    tokio::time::advance(SPAN * 10).await;
    rest().await;
    let heard = guest.heard();
    let answered = heard.iter().position(|heard| *heard == Heard::Answer(2)).expect("answered");
    assert!(answered <= 4 && heard.len() == 10 + 4, "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn members_come_go_away_come_back_and_leave_and_the_others_hear_of_it() {
    let server = Server::alone();
    let room = server.open(hall());
    let (one, two) = (Guest::joined(1, &room).await, Guest::new(2, 2, &room));
    let attached = two.attach(true).await.expect("there is a seat");
    assert_eq!(attached.state, b"2 of 2");
    rest().await;
    assert_eq!(one.heard(), [Heard::News(news::JOINED, 2)]);
    assert_eq!(two.heard(), [Heard::News(news::JOINED, 2)], "itself too");
    for (blocked, what) in [(true, news::AWAY), (false, news::BACK)] {
        two.tell(Mail::Blocked(two.connection, blocked));
        rest().await;
        assert_eq!(one.heard(), [Heard::News(what, 2)]);
        two.tell(Mail::Blocked(two.connection, blocked));
        rest().await;
        assert_eq!(one.heard(), [], "it is told once");
    }
    two.heard();
    two.leave();
    rest().await;
    assert_eq!(one.heard(), [Heard::News(news::LEFT, 2)]);
    assert_eq!(two.heard(), [Heard::Other(Mark::Answer, "msg.LeaveRoom.Res".into())]);
    assert_eq!(two.kicks(), []);
    two.ask(1);
    rest().await;
    assert_eq!(two.heard(), []);
    assert_eq!(server.meter("room_stale_requests_total"), 1);
    assert_eq!((server.meter("room_members"), server.meter("room_running")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_seat_without_a_way_to_its_member_is_given_up_after_the_resume_window() {
    let server = Server::alone();
    let room = server.open(hall());
    let (one, two) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    one.heard();
    let window = server.host.sessions().resume_window;
    two.tell(Mail::Detach(two.connection));
    sleep(window - SPAN).await;
    assert_eq!(one.heard(), [Heard::News(news::AWAY, 2)]);
    // Back in time, over another way.
    let again = Guest::new(2, 22, &room);
    assert_eq!(again.attach(false).await.expect("its seat").state, b"2 of 2");
    sleep(window * 2).await;
    assert_eq!(one.heard(), [Heard::News(news::BACK, 2)]);
    again.tell(Mail::Detach(again.connection));
    sleep(window + SPAN).await;
    assert_eq!(one.heard(), [Heard::News(news::AWAY, 2), Heard::News(news::LEFT, 2)]);
    let late = Guest::new(2, 23, &room).attach(false).await;
    assert_eq!(late.unwrap_err().code, Code::NOT_IN_ROOM);
}

#[tokio::test(start_paused = true)]
async fn the_same_account_takes_its_own_seat_over_and_the_older_way_is_told_nothing_more() {
    let server = Server::alone();
    let room = server.open(hall());
    let (one, old) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    let new = Guest::new(2, 22, &room);
    assert_eq!(new.attach(true).await.expect("its seat").state, b"2 of 2");
    rest().await;
    old.heard();
    old.ask(1);
    old.tell(Mail::Detach(old.connection));
    old.tell(Mail::Blocked(old.connection, true));
    new.ask(2);
    rest().await;
    assert_eq!((old.heard(), old.kicks()), (vec![], vec![]));
    let said = Heard::News(news::SAID, 2);
    assert_eq!(new.heard(), [Heard::News(news::BACK, 2), said.clone(), Heard::Answer(2)]);
    one.heard().ends_with(&[said]).then_some(()).expect("and nobody went away");
}

#[tokio::test(start_paused = true)]
async fn a_word_to_all_to_one_or_to_all_but_one_reaches_them_in_one_delivery_a_wake() {
    let server = Server::alone();
    let room = server.open(hall());
    let one = Guest::joined(1, &room).await;
    let two = Guest::joined(2, &room).await;
    one.heard();
    one.deliveries();
    for val in [7, ask::TELL_OTHERS, ask::TELL_ME, 8] {
        one.ask(val);
    }
    rest().await;
    let said = |val| Heard::News(news::SAID, val);
    let expected = [
        vec![said(7), Heard::Answer(7)],
        vec![Heard::Answer(ask::TELL_OTHERS)],
        vec![said(ask::TELL_ME), Heard::Answer(ask::TELL_ME)],
        vec![said(8), Heard::Answer(8)],
    ];
    assert_eq!((one.heard(), one.deliveries()), (expected.concat(), vec![7]));
    assert_eq!(
        (two.heard(), two.deliveries()),
        (vec![said(7), said(ask::TELL_OTHERS), said(8)], vec![3])
    );
    // Inputs are not answered, unless they fail; what may be lost is marked so.
    one.send(|batch| {
        push(batch, Mark::Plain, &Step { val: 1 });
        push(batch, Mark::Plain, &Step { val: -1 });
        push(batch, Mark::Plain, &msg::get_items::Req::default());
    });
    rest().await;
    let step = Heard::Other(Mark::Loose, "test.Step".into());
    let refused = [Code::PARAMETER, Code::UNKNOWN_API].map(|c| Heard::Refused(Mark::Plain, c.0));
    assert_eq!(one.heard(), [[step.clone()].as_slice(), &refused].concat());
    assert_eq!(two.heard(), [step]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_sit_there_is_told_why() {
    let server = Server::alone();
    let room = server.open(hall());
    let refused = async |account: i64, name, room_id, joins| {
        let guest = Guest::new(account, 100, &room);
        guest.attach_as(name, room_id, joins).await.expect_err("refused").code
    };
    let host = Guest::joined(1, &room).await;
    host.ask(ask::LOCK);
    assert_eq!(refused(2, "a", "r2", true).await, Code::ROOM_NOT_FOUND);
    assert_eq!(refused(2, "a", "r1", false).await, Code::NOT_IN_ROOM);
    assert_eq!(refused(2, "bad", "r1", true).await, Code::REMOVED);
    assert_eq!(refused(2, "panic", "r1", true).await, Code::INTERNAL);
    // A ticket is a reservation, also in a room that is locked.
    let (_two, _three) = (Guest::joined(2, &room).await, Guest::joined(3, &room).await);
    assert_eq!(refused(4, "a", "r1", true).await, Code::ROOM_FULL);
    let small = server.try_open(hall(), &[("size", "none")], None).expect_err("refused");
    assert_eq!((small.code, &*small.message), (Code::PARAMETER, "size"));
    let broken = server.try_open(hall(), &[("size", "panic")], None).expect_err("refused");
    assert_eq!(broken.code, Code::INTERNAL);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_is_in_stays_while_a_seat_is_kept_for_somebody() {
    let server = Server::alone();
    let room = server.open(hall());
    sleep(ROOM_LINGER - Duration::from_secs(1)).await;
    let kept = server.host.book().seat("hall/r1", None, &[1], None).await.unwrap();
    assert!(matches!(kept, Some(Seating::Kept(_))), "{kept:?}");
    sleep(ROOM_LINGER).await;
    assert_eq!(server.meter("room_running"), 1);
    Guest::joined(1, &room).await.leave();
    sleep(ROOM_LINGER + Duration::from_secs(2)).await;
    assert_eq!(server.meter("room_running"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_is_in_closes_when_a_ticket_would_be_void() {
    let server = Server::alone();
    let room = server.open(hall().snapshots(SPAN));
    sleep(ROOM_LINGER - Duration::from_secs(1)).await;
    let guest = Guest::joined(1, &room).await;
    sleep(Duration::from_secs(60)).await;
    assert!(server.kept(1).await.is_some());
    guest.leave();
    sleep(ROOM_LINGER - Duration::from_secs(1)).await;
    assert_eq!(server.meter("room_running"), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.meter("room_running"), 0);
    assert_eq!(server.kept(1).await, None, "it does not come back");
    let late = room.requests(Requests {
        connection: guest.connection,
        deadline: Instant::now(),
        batch: Batch::default(),
    });
    assert_eq!(late, Err(Code::NOT_CONNECTED));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_costs_its_request_and_a_tick_that_panics_the_room() {
    let server = Server::alone();
    let guest = Guest::joined(1, &server.open(hall().ticks(20))).await;
    guest.ask(ask::PANIC);
    guest.ask(ask::REFUSE);
    guest.ask(1);
    rest().await;
    let refused = [Code::INTERNAL, Code::BUSY].map(|code| Heard::Refused(Mark::Answer, code.0));
    let on = [Heard::News(news::SAID, 1), Heard::Answer(1)];
    assert_eq!(guest.heard(), [refused, on].concat());
    assert_eq!(server.meter("room_handler_panics_total"), 1);
    guest.ask(ask::BREAK_TICK);
    sleep(SPAN * 5).await;
    assert_eq!(guest.kicks(), [(Code::ROOM_CLOSED, "the room is broken".to_owned())]);
    assert_eq!(server.meter("room_handler_panics_total"), 2);
    assert_eq!(server.meter("room_running"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_room_closes_or_takes_a_seat_away_when_the_game_says_so() {
    let server = Server::alone();
    let room = server.open(hall());
    let (one, two) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    one.heard();
    two.ask(ask::REMOVE_ME);
    two.ask(1);
    rest().await;
    assert_eq!(two.heard(), [Heard::Answer(ask::REMOVE_ME)], "the rest is from the past");
    assert_eq!(two.kicks(), [(Code::REMOVED, "it wanted to".to_owned())]);
    assert_eq!(one.heard(), [Heard::News(news::LEFT, 2)]);
    one.ask(ask::CLOSE);
    one.ask(1);
    rest().await;
    assert_eq!(one.heard(), [Heard::Answer(ask::CLOSE)], "the kick answers the rest");
    assert_eq!(one.kicks(), [(Code::ROOM_CLOSED, "it was asked for".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn work_that_is_too_late_is_not_begun() {
    let server = Server::alone();
    let guest = Guest::joined(1, &server.open(hall())).await;
    guest.send_until(Instant::now(), |batch| {
        push(batch, Mark::Request, &msg::echo::Req { val: Some(1), ct: None });
        push(batch, Mark::Plain, &Step { val: 1 });
    });
    rest().await;
    let late = |mark| Heard::Refused(mark, Code::DEADLINE.0);
    assert_eq!(guest.heard(), [late(Mark::Answer), late(Mark::Plain)]);
}

#[tokio::test(start_paused = true)]
async fn without_the_lease_nothing_happens_in_a_room_and_with_it_again_it_goes_on() {
    let server = Server::alone();
    let room = server.open(hall().ticks(20));
    let (one, two) = (Guest::joined(1, &room).await, Guest::joined(2, &room).await);
    one.heard();
    server.host.lease().lost();
    two.tell(Mail::Detach(two.connection));
    one.ask(1);
    let joined = Guest::new(3, 3, &room).attach(true).await;
    assert_eq!(joined.unwrap_err().code, Code::NOT_CONNECTED);
    sleep(SPAN * 10).await;
    assert_eq!(one.heard(), [Heard::Refused(Mark::Answer, Code::NOT_CONNECTED.0)]);
    server.host.lease().proved_by_claims(Instant::now() + Duration::from_secs(99));
    sleep(SPAN * 2).await;
    rest().await;
    assert_eq!(one.heard()[..2], [Heard::News(news::TICK, 50), Heard::News(news::AWAY, 2)]);
}
