//! Owns what a measurement is to do: groups of connections with their steps, as the command line
//! or a scenario says it, checked against the messages of the game; and who does which part.

use std::{collections::BTreeMap, fmt, ops::Range, time::Duration};

use serde::{Deserialize, Serialize};

use super::script::{Pace, Turn};
use crate::{
    schema::Schema,
    wire::{self, FRAME_BYTES_MAX},
};

/// Everything that a worker must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The account center.
    pub(super) addr: String,
    /// The gate, where it is not the one that the account center names.
    pub(super) gate: Option<String>,
    /// Devices are this, a hyphen and a number.
    pub(super) prefix: String,
    pub(super) connections: usize,
    pub(super) warm_up: Duration,
    pub(super) span: Duration,
    pub(super) ramp: Duration,
    pub(super) groups: Vec<Group>,
}

/// Connections that do the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    /// How many of the connections are these, beside the weights of the others.
    pub(super) weight: u32,
    /// The room that they sit in.
    pub(super) room: Option<RoomWish>,
    /// How long one stays until it hangs up and signs in again.
    pub(super) stay: Option<Duration>,
    pub(super) steps: Vec<Step>,
}

/// A room to sit in: any of a kind that has a seat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RoomWish {
    pub(super) kind: String,
    pub(super) options: BTreeMap<String, String>,
}

/// Messages of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) api: String,
    /// In JSON; `{n}` is the number of the connection.
    pub(super) body: String,
    /// Bytes that the payload is made up to.
    pub(super) payload: usize,
    pub(super) times: u64,
    pub(super) pace: Pace,
}

/// A message that can be sent as it is.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) frame: Vec<u8>,
    pub(super) api: String,
    /// `None`: it gets no answer.
    pub(super) answer: Option<String>,
}

/// What the operator has to change, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake(pub(crate) String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(sentence) = self;
        f.write_str(sentence)
    }
}

/// What a game understands, to check and to encode with.
pub(crate) struct Language {
    pub(super) schema: Schema,
    /// The messages that clients may send.
    pub(super) apis: Vec<String>,
    /// The kinds of rooms.
    pub(super) rooms: Vec<String>,
}

/// What every gate answers itself.
const OF_GATES: [&str; 1] = ["msg.Ping.Req"];

/// The field that fills a payload up: the last number that there is, which messages do not use;
/// who does not know a field passes over it.
const FILL_FIELD: u32 = (1 << 29) - 1;

impl Language {
    /// Refuses what the game has not.
    pub(super) fn knows(&self, key: &str, api: &str) -> Result<(), Mistake> {
        if OF_GATES.contains(&api) || self.apis.iter().any(|known| known == api) {
            return Ok(());
        }
        let mut known = self.apis.clone();
        known.extend(OF_GATES.map(str::to_owned));
        known.sort_unstable();
        known.dedup();
        let known = known.join(", ");
        let said = format!("{key} is {api:?}, which this game has not; choose one of {known}");
        Err(Mistake(said))
    }

    pub(super) fn knows_room(&self, key: &str, kind: &str) -> Result<(), Mistake> {
        if self.rooms.iter().any(|known| known == kind) {
            return Ok(());
        }
        let remedy = match self.rooms.join(", ") {
            none if none.is_empty() => "leave it out".to_owned(),
            known => format!("choose one of {known}"),
        };
        Err(Mistake(format!("{key} is {kind:?}, a kind of rooms that this game has not; {remedy}")))
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema: _, apis, rooms } = self;
        f.debug_struct("Language").field("apis", apis).field("rooms", rooms).finish()
    }
}

impl Step {
    /// The message as a certain connection sends it.
    pub(super) fn line(&self, key: &str, language: &Language, n: usize) -> Result<Line, Mistake> {
        let Self { api, body, payload, times: _, pace: _ } = self;
        let json = body.replace("{n}", &n.to_string());
        let encoded = language.schema.encode(api, Some(&json));
        let mut bytes = encoded.map_err(|e| {
            Mistake(format!(
                "{key}: the body {json} is no {api}: {e}; write it in JSON, as in --body"
            ))
        })?;
        fill(&mut bytes, *payload);
        let mut frame = Vec::new();
        if wire::put(&mut frame, api, &bytes).is_err() {
            let bytes = bytes.len();
            let said = format!(
                "{key}: a payload of {bytes} bytes does not fit into a frame of {FRAME_BYTES_MAX}; \
                 choose a smaller one"
            );
            return Err(Mistake(said));
        }
        let answer = api.strip_suffix(".Req").map(|name| format!("{name}.Res"));
        Ok(Line { frame, api: api.clone(), answer })
    }

    pub(super) fn turn(&self) -> Turn {
        let Self { api, body: _, payload: _, times, pace } = self;
        Turn { times: *times, pace: *pace, is_request: api.ends_with(".Req") }
    }
}

/// Makes an encoded message so many bytes long where it is shorter, but for the few that cannot be
/// met: what fills it up has a head of its own.
fn fill(payload: &mut Vec<u8>, bytes: usize) {
    use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
    let missing = bytes.saturating_sub(payload.len());
    let room = missing.saturating_sub(key_len(FILL_FIELD) + 1);
    if room == 0 {
        return;
    }
    let filling = (1 + room).saturating_sub(encoded_len_varint(room as u64));
    encode_key(FILL_FIELD, WireType::LengthDelimited, payload);
    encode_varint(filling as u64, payload);
    payload.resize(payload.len() + filling, 7);
}

impl Plan {
    /// The group of each connection: mixed as the weights say, from the first on.
    pub(super) fn groups_of_connections(&self) -> Vec<usize> {
        let total: i64 = self.groups.iter().map(|g| i64::from(g.weight)).sum();
        let mut owed = vec![0; self.groups.len()];
        let mut of = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            for (owed, group) in owed.iter_mut().zip(&self.groups) {
                *owed += i64::from(group.weight);
            }
            let most = (0..owed.len()).rev().max_by_key(|g| owed[*g]).unwrap_or_default();
            owed[most] -= total;
            of.push(most);
        }
        of
    }

    /// Refuses what cannot be sent, before anything starts.
    pub(super) fn check(&self, language: &Language, key: &str) -> Result<(), Mistake> {
        for (g, group) in self.groups.iter().enumerate() {
            for (s, step) in group.steps.iter().enumerate() {
                let at = match self.groups.len() + group.steps.len() {
                    2 => key.to_owned(),
                    _ => format!("{key}: step {} of group {} ({:?})", s + 1, g + 1, group.name),
                };
                language.knows(&at, &step.api)?;
                step.line(&at, language, 0)?;
                if !step.api.ends_with(".Req") && matches!(step.pace, Pace::Depth(_)) {
                    let api = &step.api;
                    return Err(Mistake(format!(
                        "{at}: {api} gets no answer to wait for; say how fast with a rate"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The connections of each of so many workers.
    pub(super) fn shares(&self, workers: usize) -> Vec<Range<usize>> {
        let bound = |worker: usize| worker * self.connections / workers;
        (0..workers).map(|worker| bound(worker)..bound(worker + 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn language() -> Language {
        let apis = ["msg.Echo.Req", "arena.Steer"].map(str::to_owned).to_vec();
        Language { schema: Schema::new(&[]), apis, rooms: vec!["arena".to_owned()] }
    }

    fn plan(weights: &[u32], connections: usize) -> Plan {
        let step = Step {
            api: "msg.Echo.Req".to_owned(),
            body: r#"{"val": {n}}"#.to_owned(),
            payload: 0,
            times: 1,
            pace: Pace::Depth(1),
        };
        let group = |weight: &u32| Group {
            name: weight.to_string(),
            weight: *weight,
            room: None,
            stay: None,
            steps: vec![step.clone()],
        };
        Plan {
            addr: String::new(),
            gate: None,
            prefix: String::new(),
            connections,
            warm_up: Duration::ZERO,
            span: Duration::from_secs(1),
            ramp: Duration::ZERO,
            groups: weights.iter().map(group).collect(),
        }
    }

    proptest! {
        #[test]
        fn weights_are_kept_and_every_connection_is_in_one_share(weights in prop::collection::vec(1u32..20, 1..5), connections in 1usize..300, workers in 1usize..9) {
            let plan = plan(&weights, connections);
            let of = plan.groups_of_connections();
            let total: u32 = weights.iter().sum();
            for (group, weight) in weights.iter().enumerate() {
                let count = of.iter().filter(|g| **g == group).count() as f64;
                let fair = connections as f64 * f64::from(*weight) / f64::from(total);
                prop_assert!((count - fair).abs() < weights.len() as f64, "{count} of {fair}");
            }
            let shares = plan.shares(workers);
            prop_assert_eq!(shares.into_iter().flatten().collect::<Vec<_>>(), (0..connections).collect::<Vec<_>>());
        }

        #[test]
        fn a_filled_payload_has_its_bytes_and_means_the_same(bytes in 0usize..60_000) {
            use prost::Message as _;
            let echo = crate::msg::echo::Req { val: Some(7), ct: None };
            let mut payload = echo.encode_to_vec();
            let before = payload.len();
            fill(&mut payload, bytes);
            prop_assert_eq!(crate::msg::echo::Req::decode(payload.as_slice()).expect("the same"), echo);
            prop_assert!(payload.len() <= bytes.max(before));
            prop_assert!(bytes < 10 || payload.len() + 2 > bytes, "{} of {bytes}", payload.len());
        }
    }

    #[test]
    fn a_message_is_encoded_for_each_connection_and_what_is_none_is_said() {
        let mut plan = plan(&[1], 1);
        plan.check(&language(), "--api").expect("fine");
        let line = plan.groups[0].steps[0].line("", &language(), 7).expect("encodes");
        assert_eq!(line.frame, b"\x10\0\x0c\0msg.Echo.Req\x08\x07");
        assert_eq!(line.answer.as_deref(), Some("msg.Echo.Res"));

        let said = |change: fn(&mut Step), parts: &[&str]| {
            let mut plan = plan.clone();
            change(&mut plan.groups[0].steps[0]);
            let Mistake(said) = plan.check(&language(), "--api").expect_err("a mistake");
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        };
        said(|s| s.api = "no.Such.Req".to_owned(), &["--api", "no.Such.Req", "msg.Echo.Req"]);
        said(|s| s.body = "{\"wal\": 7}".to_owned(), &["--api", "wal", "JSON"]);
        said(|s| s.payload = 70_000, &["--api", "70000", "smaller"]);
        plan.groups[0].steps[0].body = String::new();
        assert!(plan.check(&language(), "--api").is_err());
    }
}
