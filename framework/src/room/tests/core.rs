//! The same inputs give the same room and the same words; nobody sits in two seats, or in none.

use std::collections::BTreeSet;

use metrics::Counter;
use proptest::prelude::*;

use super::{
    super::{
        context::Setting,
        core::{Core, Input},
        record::Recorder,
        said::{Saying, To},
    },
    *,
};

fn setting(capacity: u32) -> Setting {
    Setting {
        id: "r1".into(),
        options: BTreeMap::new(),
        capacity,
        seed: [3; 32],
        now_ms: 1,
        classes: Arc::default(),
    }
}

fn open(kind: &RoomKind<Hall>) -> Core<Hall> {
    let core = Core::open(kind.table.clone(), setting(kind.capacity), Counter::noop());
    core.unwrap_or_else(|e| panic!("{e}"))
}

#[derive(Clone, Debug)]
enum Op {
    Join(i64, &'static str),
    Leave(u32),
    Away(u32),
    Back(u32),
    Ask(u32, i64),
    Step(u32, i64),
    Nonsense(u32),
    Tick(u64),
    /// It is kept, and made again from that.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let name = prop_oneof![4 => Just("a"), 1 => Just("bad"), 1 => Just("a name that is too long")];
    prop_oneof![
        4 => (0..6i64, name).prop_map(|(account, name)| Op::Join(account, name)),
        2 => (0..8u32).prop_map(Op::Leave),
        1 => (0..8u32).prop_map(Op::Away),
        1 => (0..8u32).prop_map(Op::Back),
        // Not closing, which would end most runs at once, nor panics, which are loud.
        4 => (0..8u32, prop_oneof![0..9i64, -7..=-4i64, Just(ask::DRAW), Just(ask::REFUSE)])
            .prop_map(|(seat, val)| Op::Ask(seat, val)),
        2 => (0..8u32, -2..9i64).prop_map(|(seat, val)| Op::Step(seat, val)),
        1 => (0..8u32).prop_map(Op::Nonsense),
        3 => (1..99u64).prop_map(Op::Tick),
        1 => Just(Op::Restart),
    ]
}

fn apply(core: &mut Core<Hall>, at_ms: i64, op: &Op) -> Option<Code> {
    let echo = |val| msg::echo::Req { val: Some(val), ct: None }.encode_to_vec();
    let payload = match op {
        Op::Ask(_, val) => echo(*val),
        Op::Step(_, val) => Step { val: *val }.encode_to_vec(),
        _ => vec![0xff],
    };
    let payload = payload.as_slice();
    let said = |seat: &u32, mark, api| Input::Message { seat: Seat(*seat), mark, api, payload };
    let input = match op {
        Op::Join(account, name) => Input::Join { account: *account, name },
        Op::Leave(seat) => Input::Leave(Seat(*seat)),
        Op::Away(seat) => Input::Away(Seat(*seat)),
        Op::Back(seat) => Input::Back(Seat(*seat)),
        Op::Ask(seat, _) | Op::Nonsense(seat) => said(seat, Mark::Request, "msg.Echo.Req"),
        Op::Step(seat, _) => said(seat, Mark::Plain, "test.Step"),
        Op::Tick(ms) => Input::Tick(Duration::from_millis(*ms)),
        Op::Restart => return None,
    };
    core.apply(at_ms, input).err().map(|refusal| refusal.code)
}

/// Everything that was said, in order.
fn words(core: &mut Core<Hall>) -> Vec<String> {
    let said = core.said();
    let words = said.sayings().map(|saying| format!("{saying:?}")).collect();
    said.clear();
    words
}

fn seats(core: &Core<Hall>) -> Vec<(Seat, i64, bool)> {
    core.ctx().members().map(|m| (m.seat, m.account, m.away)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_happens_the_same_again_and_leaves_no_ghost(ops in prop::collection::vec(op(), 0..80)) {
        let kind = hall();
        let (mut one, mut two) = (open(&kind), open(&kind));
        let folder = std::path::Path::new("/nowhere");
        one.record(Recorder::new("hall", &setting(3), None, folder, Counter::noop()));
        // What the members should be: seat, account, away.
        let (mut model, mut last) = (BTreeMap::<u32, (i64, bool)>::new(), 0);
        for (n, op) in ops.iter().enumerate() {
            let at_ms = 10 * n as i64;
            let done = apply(&mut one, at_ms, op);
            if matches!(op, Op::Restart) {
                // Who sat where sits there, and is away.
                let kept = one.kept().expect("it saves");
                let table = kind.table.clone();
                let again = Core::restore(table, setting(3), &kept, Counter::noop());
                let again = again.unwrap_or_else(|e| panic!("{e}"));
                let all_away = seats(&one).into_iter().map(|(seat, account, _)| (seat, account, true));
                prop_assert_eq!(seats(&again), all_away.collect::<Vec<_>>());
                prop_assert_eq!(again.save(), one.save());
            } else {
                prop_assert_eq!(done, apply(&mut two, at_ms, op));
            }
            prop_assert_eq!(words(&mut one), words(&mut two));
            prop_assert_eq!(one.save(), two.save());
            expect(&mut model, &mut last, op, done)?;
            let members = one.ctx().members().map(|m| (m.seat.0, (m.account, m.away)));
            prop_assert_eq!(&members.collect::<BTreeMap<_, _>>(), &model);
            let accounts: BTreeSet<_> = model.values().map(|(account, _)| account).collect();
            prop_assert!(accounts.len() == model.len() && model.len() <= 3);
        }
        let recording = one.recording().expect("it was recorded").recording();
        let replayed = kind.replay(&recording).unwrap_or_else(|e| panic!("{e}"));
        prop_assert!(replayed.matches && Some(replayed.saved) == one.save());
        let inputs = ops.iter().filter(|op| !matches!(op, Op::Restart)).count();
        prop_assert_eq!(replayed.inputs, inputs as u64);
    }
}

/// What an input does to who sits where.
fn expect(
    model: &mut BTreeMap<u32, (i64, bool)>,
    last: &mut u32,
    op: &Op,
    done: Option<Code>,
) -> Result<(), TestCaseError> {
    let expected = match op {
        Op::Join(account, _) if model.values().any(|(a, _)| a == account) => {
            Some(Code::ALREADY_IN_ROOM)
        }
        Op::Join(..) if model.len() == 3 => Some(Code::ROOM_FULL),
        Op::Join(account, name) => {
            // Also the seat of one who may not join is never given out again.
            *last += 1;
            if *name == "bad" {
                Some(Code::REMOVED)
            } else {
                model.insert(*last, (*account, false));
                None
            }
        }
        Op::Tick(_) | Op::Restart => None,
        Op::Leave(seat)
        | Op::Away(seat)
        | Op::Back(seat)
        | Op::Ask(seat, _)
        | Op::Step(seat, _)
        | Op::Nonsense(seat)
            if !model.contains_key(seat) =>
        {
            Some(Code::NOT_IN_ROOM)
        }
        Op::Leave(seat) | Op::Ask(seat, ask::REMOVE_ME) => model.remove(seat).map(|_| ()).and(None),
        Op::Away(seat) => model.get_mut(seat).map(|m| m.1 = true).and(None),
        Op::Back(seat) => model.get_mut(seat).map(|m| m.1 = false).and(None),
        Op::Ask(..) | Op::Step(..) | Op::Nonsense(_) => None,
    };
    prop_assert_eq!(done, expected);
    Ok(())
}

#[test]
fn a_room_that_comes_back_goes_on_with_the_same_chance() {
    let kind = hall();
    let mut room = open(&kind);
    let tick = Input::Tick(Duration::from_millis(50));
    for at_ms in 0..5 {
        room.apply(at_ms, tick).unwrap();
    }
    let kept = room.kept().expect("it saves");
    let again = Core::restore(kind.table.clone(), setting(3), &kept, Counter::noop());
    let mut again = again.unwrap_or_else(|e| panic!("{e}"));
    for at_ms in 5..9 {
        room.apply(at_ms, tick).unwrap();
        again.apply(at_ms, tick).unwrap();
    }
    assert_eq!((room.save(), room.ctx().ticks()), (again.save(), 9));
}

#[test]
fn who_may_not_join_leaves_nothing_behind() {
    let mut room = open(&hall());
    for name in ["bad", "panic"] {
        let joined = room.apply(1, Input::Join { account: 1, name });
        let code = if name == "bad" { Code::REMOVED } else { Code::INTERNAL };
        assert_eq!(joined.unwrap_err().code, code);
        assert!(seats(&room).is_empty() && words(&mut room).is_empty());
        assert!(room.ctx().told().info.is_empty(), "nor in lists");
    }
}

#[test]
fn a_message_is_encoded_once_whoever_it_is_for() {
    let kind = hall();
    let mut room = open(&kind);
    for account in 1..=3 {
        room.apply(1, Input::Join { account, name: "a" }).unwrap();
    }
    words(&mut room);
    let payload = &msg::echo::Req { val: Some(5), ct: None }.encode_to_vec()[..];
    let (seat, mark, api) = (Seat(2), Mark::Request, "msg.Echo.Req");
    room.apply(2, Input::Message { seat, mark, api, payload }).unwrap();
    let said = room.said();
    let to = |saying| match saying {
        Saying::Frame(to, _) => Some(to),
        Saying::Lost { .. } => None,
    };
    assert_eq!(said.sayings().map(to).collect::<Vec<_>>(), [Some(To::All), Some(To::One(seat))]);
}

#[test]
fn what_lists_tell_of_a_room_is_bounded() {
    let mut ctx = RoomCtx::new(setting(1));
    for n in 0..20 {
        ctx.set_info(&n.to_string(), "x");
    }
    ctx.set_info("0", &"x".repeat(257));
    ctx.set_info("1", "");
    ctx.set_info("new", "y");
    let info = &ctx.told().info;
    assert_eq!((info.len(), info["0"].as_str(), info["new"].as_str()), (16, "x", "y"));
}

#[test]
fn a_kind_tells_which_messages_it_has_handlers_for() {
    let kind = hall();
    assert_eq!(kind.apis(), ["msg.Echo.Req", "test.Step"]);
    assert!(kind.schemas().iter().any(|schema| !schema.is_empty()));
    assert_eq!((AnyRoomKind::capacity(&kind), kind.is_saved()), (3, false));
    assert!(hall().snapshots(Duration::from_secs(1)).is_saved());
}

#[test]
#[should_panic(expected = "two handlers for msg.Echo.Req")]
fn two_handlers_of_one_message_are_a_mistake() {
    let _never = hall().on(echo);
}

#[test]
fn what_no_room_can_be_is_a_mistake() {
    let made = |make: fn() -> RoomKind<Hall>| std::panic::catch_unwind(make).is_ok();
    assert!(made(|| RoomKind::new("a-1").capacity(10_000).ticks(1000)));
    assert!(!made(|| RoomKind::new("")));
    assert!(!made(|| RoomKind::new("Hall")));
    assert!(!made(|| RoomKind::new("an-arena-with-a-name-that-is-too-long")));
    assert!(!made(|| hall().capacity(0)));
    assert!(!made(|| hall().capacity(10_001)));
    assert!(!made(|| hall().ticks(1001)));
    assert!(!made(|| hall().snapshots(Duration::ZERO)));
}
