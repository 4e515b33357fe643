//! Whatever is cut, wherever, however often: done once, told once, in order.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use prost::Message as _;
use tokio::runtime::Builder;

use super::model::{Cut, How, Model};
use crate::{
    client::{Event, Options, Session},
    msg,
};

/// Runs in virtual time.
pub(super) fn run<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

pub(super) fn echo(val: i64) -> msg::echo::Req {
    msg::echo::Req { val: Some(val), ct: None }
}

pub(super) fn options(model: &Model) -> Options {
    Options { dial: Arc::new(model.clone()), ..Options::default() }
}

pub(super) async fn session(options: Options) -> Session {
    Session::with_token("token", "first:1", options).await.unwrap()
}

/// The value of a push.
pub(super) fn pushed(event: Event) -> Option<i64> {
    match event {
        Event::Push(push) => {
            assert_eq!(push.api, "arena.Pushed");
            msg::echo::Res::decode(push.payload.as_slice()).unwrap().val
        }
        Event::Resumed(_) => None,
        other => panic!("{other:?}"),
    }
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let how = prop_oneof![Just(How::Ends), Just(How::Fails), Just(How::Silent)];
    // Login.Res and Resume.Res take some 40 bytes: most cuts fall behind them, many into them.
    let one = (1usize..400, 1usize..400, how).prop_map(|(up, down, how)| Cut { up, down, how });
    prop::collection::vec(one, 0..30)
}

async fn plays(cuts: Vec<Cut>, requests: i64, depth: usize, small: bool) {
    let model = Model::new();
    model.inside().cuts = cuts;
    // The first sign-in is the program's own to repeat.
    if let Some(first) = model.inside().cuts.first_mut() {
        (first.up, first.down) = (first.up + 100, first.down + 100);
    }
    let most = if small { 4 } else { 128 };
    let options = Options { unconfirmed_frames_max: most, ..options(&model) };
    let mut session = session(options).await;
    let mut waiting = std::collections::VecDeque::new();
    for value in 1..=requests {
        waiting.push_back((value, session.send(&echo(value)).await.unwrap()));
        while waiting.len() > depth {
            let (value, mut ticket) = waiting.pop_front().unwrap();
            assert_eq!(session.answer(&mut ticket).await.unwrap().val, Some(value));
        }
    }
    for (value, mut ticket) in waiting {
        assert_eq!(session.answer(&mut ticket).await.unwrap().val, Some(value));
    }
    session.ping().await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = session.event() {
        seen.extend(pushed(event));
    }
    let all: Vec<_> = (1..=requests).collect();
    assert_eq!(model.inside().done, all, "done once, in order");
    let pushes: Vec<_> = all.into_iter().filter(|value| value % 3 == 0).collect();
    assert_eq!(seen, pushes, "told once, in order");
    assert_eq!((model.inside().logins, session.events_dropped()), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Both directions, half frames, lost answers to a resume: with a handful of bytes between two
    /// cuts all of them occur in every run.
    #[test]
    fn nothing_is_lost_or_done_twice_wherever_the_connection_is_cut(
        cuts in cuts(),
        requests in 1i64..60,
        depth in 0usize..12,
        small in any::<bool>(),
    ) {
        run(plays(cuts, requests, depth, small));
    }
}

/// The answer to a resume is lost five times: each new try comes with the token that was received
/// last, which is not the one that was given last.
#[test]
fn an_answer_to_a_resume_may_be_lost_again_and_again() {
    run(async {
        let model = Model::new();
        let cut = |down| Cut { up: 10_000, down, how: How::Ends };
        model.inside().cuts = vec![cut(60), cut(5), cut(20), cut(3), cut(30), cut(1)];
        let mut session = session(options(&model)).await;
        for value in 1..=20 {
            assert_eq!(session.request(&echo(value)).await.unwrap().val, Some(value));
        }
        assert_eq!(model.inside().done, (1..=20).collect::<Vec<_>>());
        assert!(model.inside().dialed.len() >= 6);
    });
}

/// The server keeps 256 KiB for a client that is away. A client that is only pushed to says often
/// enough what it has.
#[test]
fn the_server_hears_what_arrived_long_before_its_buffer_is_full() {
    run(async {
        let model = Model::new();
        let mut session = session(options(&model)).await;
        for value in 0..4000 {
            model.push(value);
            assert_eq!(session.next_event().await.ok().and_then(pushed), Some(value));
            let inside = model.inside();
            let untold = inside.sent.len() as u64 - inside.told;
            assert!(untold <= 300, "{untold} frames");
        }
    });
}

/// Nothing is read for an hour of a session that is awaited: pings keep it alive.
#[test]
fn an_idle_session_pings_and_does_not_take_its_own_sleep_for_silence() {
    run(async {
        let model = Model::new();
        let mut session = session(options(&model)).await;
        session.rest(Duration::from_secs(3600)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        session.request(&echo(1)).await.unwrap();
        assert_eq!(model.inside().dialed.len(), 1);
    });
}
