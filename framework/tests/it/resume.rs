//! Sessions over a bad network: what a client with a session of its own sees of a real gate.

use std::time::Duration;

use bastide::{
    Code,
    client::{Event, Loss, Options, Session, SessionError, WhenLost},
    msg,
};

use crate::{
    proxy::Proxy,
    world::{World, echo_of, slow_of, told},
};

const COUNT: msg::get_items::Req = msg::get_items::Req { idx: None };

/// A player behind a proxy, its greeting read off.
async fn player(world: &World, proxy: &Proxy, device: &str, options: Options) -> Session {
    let token = world.token(device).await;
    let gate = proxy.address.to_string();
    let mut session = Session::with_token(&token, &gate, options).await.unwrap();
    let Event::Push(greeting) = session.next_event().await.unwrap() else { panic!() };
    assert_eq!(greeting.api, "msg.GetItems.Res");
    session
}

fn quick() -> Options {
    Options {
        silence_max: Duration::from_secs(1),
        ping_interval: Duration::from_millis(300),
        ..Options::default()
    }
}

fn resumes(session: &mut Session) -> usize {
    std::iter::from_fn(|| session.turn()).filter(|turn| matches!(turn, Event::Resumed(_))).count()
}

#[track_caller]
fn lost<T: std::fmt::Debug>(result: Result<T, SessionError>) -> Loss {
    match result {
        Err(SessionError::Lost(loss)) => loss,
        other => panic!("not lost: {other:?}"),
    }
}

/// The server counts: a request that is lost or done twice shows in every answer behind it.
#[test]
fn requests_are_done_once_and_in_order_however_often_the_connection_is_cut() {
    let world = World::with(&["gate.rate_frames_per_s=0"]);
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "cut", quick()).await;
        let mut count = 0;
        for round in 0..20 {
            let mut tickets = Vec::new();
            for nth in 0..10 {
                tickets.push(session.send(&COUNT).await.unwrap());
                if nth == round % 10 {
                    match round % 4 {
                        0 => proxy.cut(),
                        1 => proxy.cut_down_after(7 + round),
                        2 => proxy.cut_up_after(5 + round),
                        _ => session.hang_up(),
                    }
                }
            }
            for mut ticket in tickets {
                count += 1;
                assert_eq!(told(&session.answer(&mut ticket).await.unwrap()), count);
            }
        }
        assert!(resumes(&mut session) >= 10, "{} connections", proxy.taken());
    });
}

/// The answers and pushes of a request that was under way: each exactly once, behind the cut.
#[test]
fn pushes_and_answers_made_while_away_arrive_once_and_in_order() {
    let world = World::new();
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "away", quick()).await;
        let mut slow = session.send(&slow_of(300)).await.unwrap();
        let mut pushes = session
            .send(&msg::gift_items::Req { item_num: 25, ..Default::default() })
            .await
            .unwrap();
        let mut echo = session.send(&echo_of(7)).await.unwrap();
        session.ping().await.unwrap_or_default();
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(500)).await;
        session.answer(&mut slow).await.unwrap();
        session.answer(&mut pushes).await.unwrap();
        assert_eq!(session.answer(&mut echo).await.unwrap().val, Some(7));
        session.ping().await.unwrap();
        let count = std::iter::from_fn(|| session.push()).count();
        assert_eq!(count, 25);
    });
}

#[test]
fn a_request_in_flight_at_the_cut_is_answered_once() {
    let world = World::new();
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "in-flight", quick()).await;
        for bytes in [0, 1, 3, 10, 17, 30] {
            proxy.cut_down_after(bytes);
            session.request(&slow_of(20)).await.unwrap();
            proxy.fair();
        }
        // Nothing is left over: the next answer is the next request's.
        assert_eq!(told(&session.request(&COUNT).await.unwrap()), 1);
        assert!(session.push().is_none());
        assert!(resumes(&mut session) >= 5);
    });
}

#[test]
fn a_connection_that_stalls_is_given_up_and_the_session_goes_on() {
    let world = World::new();
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "stalled", quick()).await;
        proxy.stall();
        let mut ticket = session.send(&COUNT).await.unwrap();
        // The next connection is not affected.
        let answer = session.answer(&mut ticket).await.unwrap();
        assert_eq!(told(&answer), 1);
        assert_eq!(resumes(&mut session), 1);
    });
}

#[test]
fn a_second_sign_in_ends_the_first_session_and_its_client_does_not_fight_back() {
    let world = World::new();
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let bot = Options { when_lost: WhenLost::SignInAnew, ..quick() };
        let mut first = player(&world, &proxy, "twice", bot).await;
        let mut second = player(&world, &proxy, "twice", quick()).await;
        let Loss::Kicked(why) = lost(first.next_event().await) else { panic!() };
        assert_eq!(why.code, Code::SIGNED_IN_ELSEWHERE);
        lost(first.request(&echo_of(1)).await);
        assert_eq!(proxy.taken(), 2);
        second.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn a_session_that_logged_out_is_not_resumed() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        let welcome = client.sign_in(&world.token("logged-out").await).await.unwrap();
        let account = welcome.user.map(|user| user.account).unwrap_or_default();
        client.receive().await.unwrap();
        client.request(&msg::logout::Req { account }).await.unwrap();
        let mut again = world.connect().await;
        let resume = msg::resume::Req {
            resume_token: welcome.resume_token.expect("the gate offers a resume"),
            received: 2,
        };
        let answer = again.request(&resume).await.unwrap();
        assert_eq!(answer.code, Code::RESUME_REFUSED.0);

        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "logged-out", quick()).await;
        session.logout().await.unwrap();
        assert!(matches!(lost(session.request(&echo_of(1)).await), Loss::LoggedOut));
    });
}

#[test]
fn who_stays_away_longer_than_the_window_is_refused_and_a_bot_signs_in_anew() {
    let world = World::with(&["session.resume_window=1s"]);
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "late", quick()).await;
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let Loss::ResumeRefused(why) = lost(session.request(&echo_of(1)).await) else { panic!() };
        assert_eq!(why.code, Code::RESUME_REFUSED);

        let bot = Options { when_lost: WhenLost::SignInAnew, ..quick() };
        let mut bot = player(&world, &proxy, "late", bot).await;
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        while !matches!(bot.next_event().await, Ok(Event::SignedInAnew(_))) {}
        bot.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn when_no_gate_can_be_reached_for_the_window_the_session_is_over() {
    let world = World::with(&["session.resume_window=1s"]);
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let mut session = player(&world, &proxy, "nowhere", quick()).await;
        proxy.close();
        assert!(matches!(lost(session.next_event().await), Loss::WindowOver { .. }));
    });
}

/// With a gate that offers no resume, and with one that does: a bot plays on.
#[test]
fn a_bot_plays_on_whatever_happens_to_its_connection() {
    let world = World::new();
    world.run(async {
        let proxy = Proxy::before(world.gate()).await;
        let bot = Options { when_lost: WhenLost::SignInAnew, ..quick() };
        let mut bot = player(&world, &proxy, "bot", bot).await;
        for _ in 0..3 {
            proxy.cut();
            let turn = loop {
                match bot.next_event().await.unwrap() {
                    Event::Push(_) => {}
                    turn => break turn,
                }
            };
            assert!(matches!(turn, Event::Resumed(_) | Event::SignedInAnew(_)), "{turn:?}");
            assert_eq!(bot.request(&echo_of(3)).await.unwrap().val, Some(3));
        }
    });
}
