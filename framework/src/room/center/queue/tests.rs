//! What holds for whoever waits, whoever else does.

use proptest::prelude::*;

use super::*;

fn wish(account: i64, rating: i32) -> Wish {
    let who = Asking { account, ..Asking::default() };
    Wish { who, number: 1, rating, party: None, options: BTreeMap::new() }
}

fn accounts(found: &[Vec<Wish>]) -> Vec<Vec<i64>> {
    let sorted = |wishes: &Vec<Wish>| {
        let mut of: Vec<_> = wishes.iter().map(|w| w.who.account).collect();
        of.sort_unstable();
        of
    };
    found.iter().map(sorted).collect()
}

const PAIR: Size = Size { min: 2, max: 2 };

#[test]
fn those_who_are_near_play_at_once_and_the_others_when_the_window_has_grown() {
    let mut queue = Queue::default();
    for (account, rating) in [(1, 1000), (2, 1400), (3, 1050)] {
        queue.seek(wish(account, rating), 0);
    }
    assert_eq!(accounts(&queue.matches(PAIR, 0)), [[1, 3]]);
    queue.seek(wish(4, 1100), 0);
    // 300 apart: 50 at once, and 25 a second.
    queue.seek(wish(2, 1400), 9_999);
    queue.seek(wish(4, 1100), 9_999);
    assert!(queue.matches(PAIR, 9_999).is_empty());
    assert_eq!(accounts(&queue.matches(PAIR, 10_000)), [[2, 4]]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn who_is_silent_or_has_cancelled_waits_no_more_and_a_new_wish_begins_anew() {
    let mut queue = Queue::default();
    queue.seek(wish(1, 0), 0);
    queue.seek(wish(2, 0), 5_000);
    assert!(queue.matches(Size { min: 3, max: 3 }, 10_000).is_empty());
    assert_eq!(queue.len(), 1, "the first was silent for ten seconds");
    queue.cancel(2, 9);
    assert!(queue.waits(2, 1), "that was another wish");
    queue.seek(Wish { number: 2, ..wish(2, 0) }, 12_000);
    assert!(!queue.waits(2, 1) && queue.waits(2, 2));
    queue.cancel(2, 2);
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_party_enters_whole_and_only_when_all_are_there() {
    let party = |account, members| Wish { party: Some(("p".into(), members)), ..wish(account, 0) };
    let mut queue = Queue::default();
    let size = Size { min: 4, max: 4 };
    for wish in [party(1, 3), party(2, 3), wish(4, 0), party(5, 2)] {
        queue.seek(wish, 0);
    }
    assert!(queue.matches(size, 0).is_empty(), "another size is another party");
    queue.seek(party(3, 3), 0);
    assert_eq!(accounts(&queue.matches(size, 0)), [[1, 2, 3, 4]]);
    assert!(queue.waits(5, 1));
}

#[test]
fn three_and_two_do_not_make_four_but_two_and_two_do() {
    let party = |account: i64, members| {
        let name = format!("{}", account / 10);
        Wish { party: Some((name, members)), ..wish(account, 0) }
    };
    let mut queue = Queue::default();
    for wish in [party(10, 3), party(11, 3), party(12, 3), party(20, 2), party(21, 2)] {
        queue.seek(wish, 0);
    }
    let size = Size { min: 4, max: 4 };
    assert!(queue.matches(size, 0).is_empty());
    queue.seek(party(30, 2), 0);
    queue.seek(party(31, 2), 0);
    assert_eq!(accounts(&queue.matches(size, 0)), [[20, 21, 30, 31]]);
}

#[derive(Clone, Debug)]
enum Event {
    /// A party of so many, of one of two options, each of about this rating.
    Come {
        members: usize,
        rating: i32,
        options: u8,
    },
    Cancel {
        account: i64,
    },
    Pass {
        seconds: i64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let come = (1usize..4, 0i32..2000, 0u8..2).prop_map(|(members, rating, options)| Event::Come {
        members,
        rating,
        options,
    });
    let cancel = (0i64..60).prop_map(|account| Event::Cancel { account });
    let pass = (1i64..12).prop_map(|seconds| Event::Pass { seconds });
    proptest::collection::vec(prop_oneof![6 => come, 1 => cancel, 3 => pass], 1..60)
}

fn party_of(found: &Wish) -> String {
    found.party.as_ref().map_or_else(|| format!("alone {}", found.who.account), |p| p.0.clone())
}

/// Looks at one match as a stranger would.
fn check(
    found: &[Wish],
    size: Size,
    since: &HashMap<i64, i64>,
    now_ms: i64,
) -> Result<(), TestCaseError> {
    prop_assert!((size.min..=size.max).contains(&found.len()));
    prop_assert!(found.iter().all(|w| w.options == found[0].options));
    let mut parties: BTreeMap<String, Vec<&Wish>> = BTreeMap::new();
    for wish in found {
        parties.entry(party_of(wish)).or_default().push(wish);
    }
    let mut units = Vec::new();
    for wishes in parties.values() {
        let members = wishes[0].party.as_ref().map_or(1, |p| p.1);
        prop_assert_eq!(wishes.len(), members, "a party is whole");
        let rating = wishes.iter().map(|w| i64::from(w.rating)).sum::<i64>() / members as i64;
        let waits_since = wishes.iter().map(|w| since[&w.who.account]).max().unwrap();
        units.push((waits_since, rating));
    }
    let fits = |(waits_since, rating): &(i64, i64)| match window(now_ms - waits_since) {
        None => true,
        Some(window) => units.iter().all(|(_, other)| (other - rating).abs() <= window),
    };
    let longest = units.iter().map(|unit| unit.0).min();
    let decides = units.iter().any(|unit| Some(unit.0) == longest && fits(unit));
    prop_assert!(decides, "who has waited longest does not want {units:?}");
    Ok(())
}

proptest! {
    #[test]
    fn nobody_is_in_two_matches_parties_are_whole_windows_kept_and_all_play_in_the_end(
        events in events(),
        min in 1usize..5,
        more in 2usize..5,
    ) {
        // With so much room whoever comes fits in.
        let size = Size { min, max: min + more };
        let (mut queue, mut now_ms, mut next) = (Queue::default(), 0, 0i64);
        let mut waiting: HashMap<i64, Wish> = HashMap::new();
        let mut since: HashMap<i64, i64> = HashMap::new();
        let end = [Event::Pass { seconds: 9 }, Event::Pass { seconds: 9 }, Event::Pass { seconds: 9 }, Event::Pass { seconds: 9 }];
        for event in events.into_iter().chain(end) {
            match event {
                Event::Come { members, rating, options } => {
                    let party = (members > 1).then(|| (format!("party {next}"), members));
                    for _ in 0..members {
                        let options = [("map".to_owned(), options.to_string())].into();
                        let wish = Wish { party: party.clone(), options, ..wish(next, rating) };
                        queue.seek(wish.clone(), now_ms);
                        waiting.insert(next, wish);
                        since.insert(next, now_ms);
                        next += 1;
                    }
                }
                Event::Cancel { account } => {
                    queue.cancel(account, 1);
                    waiting.remove(&account);
                }
                Event::Pass { seconds } => {
                    for _ in 0..seconds {
                        now_ms += 1000;
                        for wish in waiting.values() {
                            queue.seek(wish.clone(), now_ms);
                        }
                        for found in queue.matches(size, now_ms) {
                            check(&found, size, &since, now_ms)?;
                            for wish in found {
                                let waited = waiting.remove(&wish.who.account);
                                prop_assert_eq!(waited.as_ref(), Some(&wish), "it waits, once");
                            }
                        }
                    }
                }
            }
        }
        // By now anybody will do: who is left is too few, or of a party that is not whole.
        for options in ["0", "1"] {
            let left = waiting.values().filter(|w| w.options["map"] == options);
            let mut parties: BTreeMap<String, usize> = BTreeMap::new();
            for wish in left.clone() {
                *parties.entry(party_of(wish)).or_default() += 1;
            }
            let whole = left.filter(|w| parties[&party_of(w)] == w.party.as_ref().map_or(1, |p| p.1));
            prop_assert!(whole.count() < size.min);
        }
    }
}
