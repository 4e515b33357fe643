//! How a session gets back, and how it ends.

use std::time::Duration;

use super::{
    cuts::{echo, options, pushed, run, session},
    model::{Cut, How, Model},
};
use crate::{
    client::{Address, Event, Loss, Options, Session, SessionError, WhenLost},
    msg,
    wire::Code,
};

const NEVER: msg::get_items::Req = msg::get_items::Req { idx: None };

fn anew(model: &Model) -> Options {
    Options { when_lost: WhenLost::SignInAnew, ..options(model) }
}

fn with_gates(model: &Model, gates: &[&str]) -> Options {
    let gates = gates.iter().map(|gate| Address::parse(gate).unwrap()).collect();
    Options { gates, ..options(model) }
}

#[test]
fn what_is_pushed_and_sent_while_away_arrives_when_it_is_back() {
    run(async {
        let model = Model::new();
        let mut session = session(options(&model)).await;
        session.hang_up();
        model.push(70);
        session.input(&echo(1)).await.unwrap();
        let Event::Resumed(resumed) = session.next_event().await.unwrap() else { panic!() };
        assert_eq!((resumed.tries, resumed.broke.as_str()), (1, "hung up"));
        assert!(resumed.took <= Duration::from_millis(100), "{:?}", resumed.took);
        assert_eq!(session.next_event().await.ok().and_then(pushed), Some(70));
        assert_eq!(session.push().map(|push| push.api), None);
        session.ping().await.unwrap();
        assert_eq!(model.inside().done, [1]);
    });
}

#[test]
fn kicks_that_pass_are_resumed_and_a_draining_gate_is_the_last_to_be_tried() {
    run(async {
        let model = Model::new();
        let mut session = session(with_gates(&model, &["ws://second:2/ws"])).await;
        for code in [Code::TOO_SLOW, Code::NOT_CONNECTED, Code::BUSY, Code::DEADLINE] {
            model.kick(code.0);
            session.next_event().await.unwrap();
        }
        assert!(model.inside().dialed.iter().all(|gate| gate == "first:1"));
        model.kick(Code::DRAINING.0);
        assert!(matches!(session.next_event().await, Ok(Event::Resumed(_))));
        assert_eq!(session.address().to_string(), "ws://second:2/ws");
        assert_eq!(model.inside().dialed.len(), 6);
        session.request(&echo(1)).await.unwrap();
    });
}

#[test]
fn kicks_on_purpose_end_it_for_good_and_nothing_is_tried() {
    for code in [Code::SIGNED_IN_ELSEWHERE, Code::REMOVED, Code::TOKEN_EXPIRED, Code(10_001)] {
        run(async {
            let model = Model::new();
            let mut session = session(anew(&model)).await;
            let mut ticket = session.send(&NEVER).await.unwrap();
            model.kick(code.0);
            let lost = session.answer(&mut ticket).await;
            assert!(
                matches!(&lost, Err(SessionError::Lost(Loss::Kicked(why))) if why.code == code),
                "{lost:?}"
            );
            assert!(matches!(session.request(&echo(1)).await, Err(SessionError::Lost(_))));
            assert!(matches!(session.next_event().await, Err(SessionError::Lost(_))));
            assert_eq!(model.inside().dialed.len(), 1);
        });
    }
}

#[test]
fn codes_that_pass_are_tried_again_until_the_session_is_resumed() {
    run(async {
        let model = Model::new();
        let mut session = session(with_gates(&model, &["second:2"])).await;
        model.inside().refuse = vec![1001, 1002, 1003, 101, 2007];
        session.hang_up();
        let Event::Resumed(resumed) = session.next_event().await.unwrap() else { panic!() };
        assert_eq!(resumed.tries, 6);
        let dialed = model.inside().dialed.split_off(1);
        assert_eq!(dialed[..3], ["first:1", "second:2", "first:1"]);
    });
}

#[test]
fn a_refused_resume_ends_the_session_and_says_that_the_outcome_is_unknown() {
    run(async {
        let model = Model::new();
        let mut session = session(options(&model)).await;
        let mut ticket = session.send(&NEVER).await.unwrap();
        model.inside().refuse = vec![2004];
        session.hang_up();
        let lost = session.answer(&mut ticket).await;
        assert!(matches!(lost, Err(SessionError::Lost(Loss::ResumeRefused(_)))), "{lost:?}");
        assert!(matches!(session.answer(&mut ticket).await, Err(SessionError::NoAnswer)));
        assert!(session.lost().is_some());
    });
}

#[test]
fn a_bot_signs_in_anew_and_what_had_no_answer_is_not_sent_again() {
    run(async {
        let model = Model::new();
        let mut session = session(anew(&model)).await;
        let mut ticket = session.send(&NEVER).await.unwrap();
        session.ping().await.unwrap();
        model.inside().refuse = vec![2004];
        session.hang_up();
        // Sent while away and not known to the old session either.
        let mut queued = session.send(&echo(5)).await.unwrap();
        assert!(matches!(session.answer(&mut ticket).await, Err(SessionError::Lost(_))));
        assert!(matches!(session.answer(&mut queued).await, Err(SessionError::Lost(_))));
        assert_eq!(session.request(&echo(6)).await.unwrap().val, Some(6));
        let Some(Event::SignedInAnew(turn)) = session.turn() else { panic!() };
        assert_eq!(turn.unanswered, 2);
        let inside = model.inside();
        assert_eq!((inside.logins, inside.done.clone()), (2, vec![6]));
    });
}

/// Every gate is down for longer than the window.
#[test]
fn when_no_gate_answers_within_the_window_the_session_is_over() {
    run(async {
        let model = Model::new();
        model.inside().window_s = 7;
        let mut session = session(with_gates(&model, &["second:2"])).await;
        model.inside().down = vec!["first:1".to_owned(), "second:2".to_owned()];
        let began = tokio::time::Instant::now();
        session.hang_up();
        let lost = session.request(&echo(1)).await;
        assert!(matches!(lost, Err(SessionError::Lost(Loss::WindowOver { .. }))), "{lost:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(13), "{took:?}");
        let tries = model.inside().dialed.len();
        assert!((6..30).contains(&tries), "{tries}");
    });
}

#[test]
fn a_gate_that_says_nothing_is_given_up_after_a_while() {
    run(async {
        let model = Model::new();
        model.inside().cuts = vec![Cut { up: 10_000, down: 60, how: How::Silent }];
        let mut session = session(options(&model)).await;
        for value in 1..=5 {
            assert_eq!(session.request(&echo(value)).await.unwrap().val, Some(value));
        }
        assert!(matches!(session.turn(), Some(Event::Resumed(_))));
        assert_eq!(model.inside().done, [1, 2, 3, 4, 5]);
    });
}

#[test]
fn without_a_resume_token_nothing_is_kept_and_a_break_is_the_end() {
    run(async {
        let model = Model::new();
        model.inside().plain = true;
        let mut session = session(options(&model)).await;
        for value in 1..=1000 {
            session.request(&echo(value)).await.unwrap();
        }
        session.hang_up();
        let lost = session.request(&echo(1)).await;
        assert!(matches!(lost, Err(SessionError::Lost(Loss::NotResumable(_)))), "{lost:?}");
    });
}

#[test]
fn an_answer_that_is_late_may_be_waited_for_again_and_refusals_do_no_harm() {
    run(async {
        let model = Model::new();
        let mut session = session(options(&model)).await;
        let unknown = session.request(&msg::get_rank::Req::default()).await;
        assert!(matches!(unknown, Err(SessionError::Refused(why)) if why.code.0 == 1004));
        session.input(&msg::error::Res::default()).await.unwrap();
        let refused = session.next_event().await;
        assert!(matches!(refused, Ok(Event::Refused { api, .. }) if api == "msg.Error.Res"));
        let reserved = session.request(&msg::ping::Req::default()).await;
        assert!(matches!(reserved, Err(SessionError::Reserved("msg.Ping.Req"))));

        let mut ticket = session.send(&NEVER).await.unwrap();
        for _ in 0..2 {
            assert!(matches!(session.answer(&mut ticket).await, Err(SessionError::Late(_))));
        }
    });
}

#[test]
fn a_session_that_logged_out_is_over() {
    run(async {
        let model = Model::new();
        let mut session = session(anew(&model)).await;
        session.logout().await.unwrap();
        let lost = session.request(&echo(1)).await;
        assert!(matches!(lost, Err(SessionError::Lost(Loss::LoggedOut))), "{lost:?}");
        assert_eq!(model.inside().dialed.len(), 1);
    });
}

/// Every wait is dropped after a moment, and taken up again.
#[test]
fn a_wait_may_be_dropped_at_any_moment() {
    run(async {
        let model = Model::new();
        let cut = |n: usize| Cut { up: 90 + n, down: 120 - n, how: How::Ends };
        model.inside().cuts = (0..40).map(cut).collect();
        let mut session = session(options(&model)).await;
        for value in 1..=40 {
            let mut ticket = session.send(&echo(value)).await.unwrap();
            let answer = loop {
                let moment = Duration::from_millis(1);
                match tokio::time::timeout(moment, session.answer(&mut ticket)).await {
                    Ok(answer) => break answer.unwrap(),
                    Err(_) => continue,
                }
            };
            assert_eq!(answer.val, Some(value));
        }
        assert_eq!(model.inside().done, (1..=40).collect::<Vec<_>>());
    });
}

/// The first sign-in goes through the addresses, and does not repeat a refusal.
#[test]
fn the_first_sign_in_tries_each_gate_once() {
    run(async {
        let model = Model::new();
        model.inside().down = vec!["first:1".to_owned()];
        session(with_gates(&model, &["second:2"])).await;
        assert_eq!(model.inside().dialed, ["first:1", "second:2"]);
        model.inside().down.push("second:2".to_owned());
        let nowhere = Session::with_token("t", "first:1", options(&model)).await;
        assert!(matches!(nowhere, Err(SessionError::SignIn(_))));
    });
}

/// A bot on a runtime of several threads moves its session.
#[test]
fn a_session_and_its_waits_may_cross_threads() {
    fn crosses(_: &impl Send) {}
    run(async {
        let model = Model::new();
        let mut session = session(options(&model)).await;
        crosses(&session);
        crosses(&session.next_event());
        crosses(&session.request(&echo(1)));
    });
}
