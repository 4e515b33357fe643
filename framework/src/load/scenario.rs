//! Owns scenarios: a TOML file that says which groups of connections there are and what each does.
//! Every mistake in it is a sentence with its key, its value and what to write instead.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;

use super::{
    plan::{Group, Language, Mistake, RoomWish, Step},
    script::{Pace, UNDER_WAY_MAX},
};

/// Bytes of a scenario: far more than a person writes. Beyond: refused.
const BYTES_MAX: u64 = 1024 * 1024;

/// Groups of a scenario, and steps of a group: a report names each. Beyond: refused.
const GROUPS_MAX: usize = 64;
const STEPS_MAX: usize = 256;

/// Of one group. Beyond: refused.
const WEIGHT_MAX: u32 = 1_000_000;

/// Messages of one connection a second: more than one core can send. Beyond: refused.
pub(super) const RATE_MAX: f64 = 1e7;

/// A pause, and how long a connection stays. Beyond: refused.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    #[serde(default)]
    group: Vec<RawGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: String,
    weight: Option<u32>,
    room: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    stay: Option<String>,
    #[serde(default)]
    step: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    send: String,
    body: Option<toml::Value>,
    payload: Option<usize>,
    times: Option<u64>,
    depth: Option<usize>,
    pause: Option<String>,
    rate: Option<f64>,
}

/// Reads the groups of a scenario.
///
/// # Errors
/// What is wrong in the file, in a sentence.
pub(super) fn read(file: &Path, language: &Language) -> Result<Vec<Group>, Mistake> {
    let at = file.display().to_string();
    let failed = |why: String| Mistake(format!("--scenario {at}: {why}"));
    let length = std::fs::metadata(file).map_err(|e| failed(e.to_string()))?.len();
    if length > BYTES_MAX {
        return Err(failed(format!("{length} bytes; at most {BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    parse(&at, &text, language)
}

fn parse(file: &str, text: &str, language: &Language) -> Result<Vec<Group>, Mistake> {
    let raw: RawScenario = toml::from_str(text).map_err(|e| syntax(file, text, &e))?;
    if raw.group.is_empty() || raw.group.len() > GROUPS_MAX {
        let count = raw.group.len();
        let said = format!("{file}: {count} groups; write 1 to {GROUPS_MAX} of [[group]]");
        return Err(Mistake(said));
    }
    let groups = raw.group.into_iter().enumerate();
    groups.map(|(g, raw)| group(&format!("{file}: group {}", g + 1), raw, language)).collect()
}

/// Where it is not TOML, or a key is not known.
fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Mistake {
    let why = error.message().replace('\n', " ");
    let Some(span) = error.span() else { return Mistake(format!("{file}: {why}")) };
    let before = text.get(..span.start).unwrap_or_default();
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    Mistake(format!("{file}, line {}: `{line}`: {why}", number + 1))
}

fn group(at: &str, raw: RawGroup, language: &Language) -> Result<Group, Mistake> {
    let RawGroup { name, weight, room, options, stay, step } = raw;
    let at = format!("{at} ({name:?})");
    let weight = within(&at, "weight", weight.unwrap_or(1), 1..=WEIGHT_MAX)?;
    let room = match room {
        Some(kind) => {
            language.knows_room(&format!("{at}: room"), &kind)?;
            Some(RoomWish { kind, options })
        }
        None if options.is_empty() => None,
        None => {
            let said = format!("{at}: options are of a room; name its kind with room = \"…\"");
            return Err(Mistake(said));
        }
    };
    let stay = stay.map(|stay| time(&at, "stay", &stay)).transpose()?;
    if step.is_empty() || step.len() > STEPS_MAX {
        let said = format!("{at}: {} steps; write 1 to {STEPS_MAX} of [[group.step]]", step.len());
        return Err(Mistake(said));
    }
    let steps = step.into_iter().enumerate();
    let steps = steps.map(|(s, raw)| read_step(&format!("{at}: step {}", s + 1), raw, language));
    Ok(Group { name, weight, room, stay, steps: steps.collect::<Result<_, _>>()? })
}

fn read_step(at: &str, raw: RawStep, language: &Language) -> Result<Step, Mistake> {
    let RawStep { send, body, payload, times, depth, pause, rate } = raw;
    language.knows(&format!("{at}: send"), &send)?;
    let body = match body {
        None => super::default_body(&send),
        // JSON as it is, for what a table cannot say.
        Some(toml::Value::String(json)) => json,
        Some(table) => serde_json::to_string(&table)
            .map_err(|e| Mistake(format!("{at}: body is not JSON: {e}; write it as a text")))?,
    };
    let pace = match (depth, pause, rate) {
        (None, None, None) => Pace::Depth(1),
        (Some(depth), None, None) => Pace::Depth(within(at, "depth", depth, 1..=UNDER_WAY_MAX)?),
        (None, Some(pause), None) => Pace::Pause(time(at, "pause", &pause)?),
        (None, None, Some(rate)) => Pace::Every(interval(&format!("{at}: rate"), rate, 1)?),
        _ => {
            let said = format!("{at}: depth, pause and rate exclude each other; keep one of them");
            return Err(Mistake(said));
        }
    };
    if !send.ends_with(".Req") && matches!(pace, Pace::Depth(_)) {
        let said = format!(
            "{at}: send is {send:?}, which gets no answer to wait for; add a rate or a pause"
        );
        return Err(Mistake(said));
    }
    let times = within(at, "times", times.unwrap_or(1), 1..=u64::MAX)?;
    let step = Step { api: send, body, payload: payload.unwrap_or_default(), times, pace };
    step.line(&format!("{at}: body"), language, 0)?;
    Ok(step)
}

/// The time from one message to the next, where so many share in the rate.
pub(super) fn interval(key: &str, rate: f64, shared: usize) -> Result<Duration, Mistake> {
    let wrong =
        || Mistake(format!("{key} is {rate}; say how many messages a second, up to {RATE_MAX}"));
    if !(rate > 0.0 && rate <= RATE_MAX) {
        return Err(wrong());
    }
    let interval = Duration::try_from_secs_f64(shared as f64 / rate).map_err(|_| wrong())?;
    // One message a day is no load.
    Ok(interval.clamp(Duration::from_nanos(100), PAUSE_MAX))
}

fn time(at: &str, key: &str, written: &str) -> Result<Duration, Mistake> {
    let time = humantime::parse_duration(written).ok();
    time.filter(|time| !time.is_zero() && *time <= PAUSE_MAX).ok_or_else(|| {
        Mistake(format!("{at}: {key} is {written:?}; write a time such as \"250ms\" or \"5s\""))
    })
}

fn within<T>(
    at: &str,
    key: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, Mistake>
where
    T: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(value);
    }
    let (from, to) = (range.start(), range.end());
    Err(Mistake(format!("{at}: {key} is {value}; choose from {from} to {to}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::Schema;

    fn language() -> Language {
        let apis = ["msg.Echo.Req", "msg.RoomClosed"].map(str::to_owned).to_vec();
        Language { schema: Schema::new(&[]), apis, rooms: vec!["arena".to_owned()] }
    }

    const FINE: &str = r#"
        [[group]]
        name = "talk"
        weight = 3
        room = "arena"
        options = { map = "small-{n}" }
        stay = "5s"
        [[group.step]]
        send = "msg.Echo.Req"
        body = { val = 7 }
        times = 10
        pause = "20ms"
        [[group.step]]
        send = "msg.Echo.Req"
        body = '{"val": {n}}'
        rate = 0.5
        [[group.step]]
        send = "msg.RoomClosed"
        rate = 20
    "#;

    #[test]
    fn a_scenario_is_read_as_it_is_written() {
        let groups = parse("a.toml", FINE, &language()).expect("fine");
        let [group] = &groups[..] else { panic!("one group: {groups:?}") };
        assert_eq!((group.weight, group.stay), (3, Some(Duration::from_secs(5))));
        assert_eq!(group.room.as_ref().expect("a room").options["map"], "small-{n}");
        let paces: Vec<_> = group.steps.iter().map(|s| (s.times, s.pace)).collect();
        let ms = Duration::from_millis;
        let expected =
            [(10, Pace::Pause(ms(20))), (1, Pace::Every(ms(2000))), (1, Pace::Every(ms(50)))];
        assert_eq!(paces, expected);
        assert_eq!(group.steps[0].body, r#"{"val":7}"#);
        assert_eq!(group.steps[2].body, "{}");
    }

    #[test]
    fn every_mistake_is_a_sentence_with_key_value_and_remedy() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("name = \"talk\"", "nmae = \"talk\"", &["line 3", "nmae", "expected", "name"]),
            ("times = 10", "times = \"x\"", &["line 11", "times", "\"x\""]),
            ("times = 10", "times = 0", &["step 1", "times is 0", "from 1"]),
            ("weight = 3", "weight = 0", &["group 1", "weight is 0", "from 1"]),
            ("weight = 3", "weight = -3", &["line 4", "weight", "-3"]),
            ("\"arena\"", "\"areena\"", &["room", "areena", "choose one of arena"]),
            ("room = \"arena\"", "", &["options", "room = "]),
            ("stay = \"5s\"", "stay = \"five\"", &["stay", "five", "5s"]),
            ("pause = \"20ms\"", "pause = \"-1\"", &["step 1", "pause", "-1", "250ms"]),
            ("pause = \"20ms\"", "pause = \"1s\"\nrate = 1", &["step 1", "exclude", "keep one"]),
            ("rate = 0.5", "rate = 0.0", &["step 2", "rate is 0", "a second"]),
            ("rate = 0.5", "depth = 0", &["step 2", "depth is 0", "from 1"]),
            ("rate = 20", "depth = 2", &["step 3", "msg.RoomClosed", "no answer", "rate"]),
            ("msg.RoomClosed", "no.Such", &["step 3", "send", "no.Such", "msg.Echo.Req"]),
            ("{ val = 7 }", "{ wal = 7 }", &["step 1", "wal", "JSON"]),
            ("{ val = 7 }", "7", &["step 1", "7", "JSON"]),
            (FINE, "", &["0 groups", "[[group]]"]),
            ("[[group]]", "[[grup]]", &["grup", "expected", "group"]),
            ("[[group]]", "[[group]", &["line 2"]),
        ];
        for (old, new, parts) in cases {
            assert!(FINE.contains(old), "{old}");
            let text = FINE.replacen(old, new, 1);
            let Mistake(said) = parse("a.toml", &text, &language()).expect_err(new);
            assert!(said.starts_with("a.toml") && !said.contains('\n'), "one sentence: {said}");
            for part in *parts {
                assert!(said.contains(part), "{new}: {part} is not in: {said}");
            }
        }
        let none = "[[group]]\nname = \"idle\"";
        let Mistake(said) = parse("a.toml", none, &language()).expect_err("no steps");
        assert!(said.contains("0 steps") && said.contains("[[group.step]]"), "{said}");
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(at in 0usize..500, text in "\\PC{0,40}") {
            let at = FINE.char_indices().map(|(i, _)| i).nth(at).unwrap_or(FINE.len());
            let broken = format!("{}{text}{}", &FINE[..at], &FINE[at..]);
            drop(parse("a.toml", &broken, &language()));
            drop(parse("a.toml", &text, &language()));
        }
    }
}
