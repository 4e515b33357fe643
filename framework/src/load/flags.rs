//! Owns what the operator says to `load`, and how it becomes a plan; each mistake is a sentence.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    ECHO, crew, default_body,
    plan::{Group, Language, Mistake, Plan, Step},
    scenario::{self, interval},
    script::{Pace, UNDER_WAY_MAX},
};

/// Connections of one measurement: a port for each, at several addresses. Beyond: refused.
const CONNECTIONS_MAX: usize = 10_000_000;

/// A week. Beyond: refused.
const SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// How the one group of a measurement without a scenario is called.
const ALL: &str = "all";

/// Measures a server: guests sign in, send messages and count what comes back. Exits 0 only if
/// there was no error, 1 if there was one, 2 if something is to be said otherwise.
#[derive(Debug, Args)]
pub(crate) struct LoadFlags {
    /// The account center to sign in at.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(super) addr: String,
    /// The gate to connect to, over TCP [default: the one that the account center names].
    #[arg(long, value_name = "ADDR")]
    pub(super) gate: Option<String>,
    /// Guests that are connected.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) connections: usize,
    /// Requests that each keeps under way: the next is sent when an answer comes (closed loop)
    /// [default: 1].
    #[arg(long, value_name = "D", conflicts_with_all = ["rate", "scenario"])]
    depth: Option<usize>,
    /// Messages a second of all of them, sent when they are due, whatever became of those before
    /// (open loop); latencies count from when a message was due.
    #[arg(long, value_name = "R", conflicts_with = "scenario")]
    rate: Option<f64>,
    /// How long is measured.
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// How long messages are sent before it is measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// How long until all connections are there [default: as fast as they get in].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ramp: Option<Duration>,
    /// The message to send [default: msg.Echo.Req].
    #[arg(long, value_name = "NAME", conflicts_with = "scenario")]
    api: Option<String>,
    /// What is in it, in JSON; {n} is the number of the connection.
    #[arg(long, value_name = "JSON", conflicts_with = "scenario")]
    body: Option<String>,
    /// Bytes that the message is made up to, by a field that its reader does not know.
    #[arg(long, value_name = "BYTES", conflicts_with = "scenario")]
    payload: Option<usize>,
    /// Groups of connections that do different things, in TOML; docs/LOAD.md says how.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Devices of the guests are this, a hyphen and a number; the same device is the same player.
    #[arg(long, value_name = "NAME", default_value = "load")]
    prefix: String,
    /// Processes that share the load [default: as many as the limit of open files demands].
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// A process of the server on this machine, whose CPU and memory are shown; several times for
    /// several [default: whoever listens at the account center's and the gate's addresses].
    #[arg(long, value_name = "PID")]
    pub(super) pid: Vec<u32>,
    /// Writes the figures there.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Writes a page with plots there, in HTML that needs no other file.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// What --json has written before: shown beside, with the ratios.
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
}

impl LoadFlags {
    /// What is to be done, and by how many processes.
    pub(super) fn plan(&self, language: &Language) -> Result<(Plan, usize), Mistake> {
        within("--connections", self.connections, 1..=CONNECTIONS_MAX)?;
        within("--seconds", self.seconds, 1..=SECONDS_MAX)?;
        within("--processes", self.processes.unwrap_or(1), 1..=crew::PROCESSES_MAX)?;
        let longest = Duration::from_secs(SECONDS_MAX);
        let ramp = self.ramp.unwrap_or_default();
        for (key, time) in [("--ramp", ramp), ("--warm-up", self.warm_up)] {
            if time > longest {
                let (time, longest) =
                    (humantime::format_duration(time), humantime::format_duration(longest));
                return Err(Mistake(format!("{key} is {time}; choose at most {longest}")));
            }
        }
        let prefix = &self.prefix;
        if prefix.is_empty() || prefix.len() > 64 || prefix.chars().any(char::is_control) {
            let said = format!("--prefix is {prefix:?}; choose a name of 1 to 64 letters");
            return Err(Mistake(said));
        }
        let groups = match &self.scenario {
            Some(file) => scenario::read(file, language)?,
            None => vec![self.group()?],
        };
        let plan = Plan {
            addr: self.addr.clone(),
            gate: self.gate.clone(),
            prefix: prefix.clone(),
            connections: self.connections,
            warm_up: self.warm_up,
            span: Duration::from_secs(self.seconds),
            ramp,
            groups,
        };
        if self.scenario.is_none() {
            plan.check(language, "--api")?;
        }
        Ok((plan, crew::processes(self.connections, self.processes)?))
    }

    fn group(&self) -> Result<Group, Mistake> {
        let pace = match self.rate {
            Some(rate) => Pace::Every(interval("--rate", rate, self.connections)?),
            None => {
                let depth = self.depth.unwrap_or(1);
                within("--depth", depth, 1..=UNDER_WAY_MAX)?;
                Pace::Depth(depth)
            }
        };
        let api = self.api.clone().unwrap_or_else(|| ECHO.to_owned());
        let body = self.body.clone().unwrap_or_else(|| default_body(&api));
        let payload = self.payload.unwrap_or_default();
        let step = Step { api, body, payload, times: 1, pace };
        Ok(Group { name: ALL.to_owned(), weight: 1, room: None, stay: None, steps: vec![step] })
    }

    /// The plan in a few words.
    pub(super) fn words(&self, plan: &Plan) -> String {
        let connections = self.connections;
        let payload = self.payload.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
        let what = match (&self.scenario, &plan.groups[..]) {
            (Some(file), groups) => {
                let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
                let file = file.file_name().unwrap_or_default().display();
                format!("{file}: {}", names.join(", "))
            }
            (None, groups) => format!("{}{payload}", groups[0].steps[0].api),
        };
        let how = match (self.rate, &self.scenario) {
            (Some(rate), _) => format!(", {rate} messages a second"),
            (None, None) => format!(", depth {}", self.depth.unwrap_or(1)),
            (None, Some(_)) => String::new(),
        };
        format!("{connections} connections{how}, {what}")
    }
}

fn within<T>(key: &str, value: T, range: std::ops::RangeInclusive<T>) -> Result<(), Mistake>
where
    T: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    let (from, to) = (range.start(), range.end());
    Err(Mistake(format!("{key} is {value}; choose from {from} to {to}")))
}
