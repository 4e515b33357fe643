//! Owns what came of a measurement: its figures as a file keeps them, and as rows that a table and
//! a report show, beside those of another.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    meter::{Latency, Slice},
    plan::Mistake,
};

/// Bytes of a file with an outcome: days of seconds. Beyond: refused.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The form of the file; another one is not read.
const FORMAT: u32 = 1;

/// A measurement that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(super) format: u32,
    /// The game's program.
    pub(super) program: String,
    /// Of bastide.
    pub(super) version: String,
    /// When it began, in ms since 1970.
    pub(super) at_ms: i64,
    pub(super) machine: String,
    pub(super) cores: usize,
    /// What was measured, in a sentence.
    pub(super) what: String,
    pub(super) connections: usize,
    /// Those that got in.
    pub(super) connected: usize,
    /// How long was measured.
    pub(super) seconds: f64,
    pub(super) sent: u64,
    pub(super) inputs: u64,
    pub(super) answered: u64,
    /// Of these within the time that was measured; the rest came after it.
    pub(super) in_time: u64,
    pub(super) pushes: u64,
    pub(super) errors: BTreeMap<String, u64>,
    /// Pairs: nanoseconds, and how many took that long.
    pub(super) latency_ns: Latency,
    pub(super) sign_in_ns: Latency,
    pub(super) server: Option<Server>,
    /// CPU of the generator's processes, in seconds.
    pub(super) generator_cpu_s: Option<f64>,
    pub(super) series: Vec<Second>,
}

/// The server's processes on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) pids: Vec<u32>,
    /// While it was measured.
    pub(super) cpu_s: f64,
    /// Before the first connection, and at the end, in bytes.
    pub(super) memory_before: u64,
    pub(super) memory: u64,
}

/// One second of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Second {
    pub(super) second: u64,
    /// Answers and inputs.
    pub(super) messages: u64,
    pub(super) pushes: u64,
    pub(super) errors: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
    /// Cores that the server used.
    pub(super) server_cpu: Option<f64>,
}

impl From<&Slice> for Second {
    fn from(slice: &Slice) -> Self {
        let us = |quantile| slice.latency.quantile(quantile).as_secs_f64() * 1e6;
        Self {
            second: slice.second,
            messages: slice.done(),
            pushes: slice.pushes,
            errors: slice.errors.values().sum(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            max_us: slice.latency.max().as_secs_f64() * 1e6,
            server_cpu: None,
        }
    }
}

/// A figure with its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) value: Option<f64>,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Count,
    PerSecond,
    Ms,
    Us,
    Cores,
    MiB,
}

impl Outcome {
    pub(super) const FORMAT: u32 = FORMAT;

    /// Reads one that was written before.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn read(file: &Path) -> Result<Self, Mistake> {
        let at = file.display();
        let failed = |why: String| Mistake(format!("--against {at}: {why}"));
        let length = std::fs::metadata(file).map_err(|e| failed(e.to_string()))?.len();
        if length > BYTES_MAX {
            return Err(failed(format!("{length} bytes; at most {BYTES_MAX} are read")));
        }
        let bytes = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
        let remedy = "name a file that load has written with --json";
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|e| failed(format!("{e}; {remedy}")))?;
        match read.format {
            FORMAT => Ok(read),
            other => Err(failed(format!("format {other}, not {FORMAT}; measure again"))),
        }
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Everything that is worth a line.
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |name: &str, value: Option<f64>, unit| Row { name: name.to_owned(), value, unit };
        let done = (self.answered + self.inputs) as f64;
        let ms = |latency: &Latency, q| {
            (latency.count() > 0).then(|| latency.quantile(q).as_secs_f64() * 1e3)
        };
        let (all, signed) = (&self.latency_ns, &self.sign_in_ns);
        let max = (all.count() > 0).then(|| all.max().as_secs_f64() * 1e3);
        let per_message = |cpu_s: f64| (done > 0.0).then(|| cpu_s * 1e6 / done);
        let cores = |cpu_s: f64| (self.seconds > 0.0).then(|| cpu_s / self.seconds);
        let server = self.server.as_ref();
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        let rate = (self.seconds > 0.0).then(|| self.in_time as f64 / self.seconds);
        let mut rows = vec![
            row("connections", Some(self.connected as f64), Unit::Count),
            row("messages", Some(done), Unit::Count),
            row("messages a second", rate, Unit::PerSecond),
            row("latency p50", ms(all, 0.5), Unit::Ms),
            row("latency p90", ms(all, 0.9), Unit::Ms),
            row("latency p99", ms(all, 0.99), Unit::Ms),
            row("latency p99.9", ms(all, 0.999), Unit::Ms),
            row("latency max", max, Unit::Ms),
            row("sign-in p50", ms(signed, 0.5), Unit::Ms),
            row("sign-in p99", ms(signed, 0.99), Unit::Ms),
            row("pushes", Some(self.pushes as f64), Unit::Count),
            row("errors", Some(self.errors() as f64), Unit::Count),
            row("server CPU a message", server.and_then(|s| per_message(s.cpu_s)), Unit::Us),
            row("server CPU", server.and_then(|s| cores(s.cpu_s)), Unit::Cores),
            row("server memory before", server.map(|s| mib(s.memory_before)), Unit::MiB),
            row("server memory", server.map(|s| mib(s.memory)), Unit::MiB),
            row("generator CPU", self.generator_cpu_s.and_then(cores), Unit::Cores),
        ];
        let errors = self.errors.iter();
        rows.extend(
            errors.map(|(what, count)| row(&format!("  {what}"), Some(*count as f64), Unit::Count)),
        );
        rows
    }

    /// Rows of this one, each with the other's of the same name; what only the other has is last.
    pub(super) fn rows_beside(&self, other: Option<&Self>) -> Vec<(Row, Option<Row>)> {
        let mut others = other.map(Self::rows).unwrap_or_default();
        let mut rows = Vec::new();
        for row in self.rows() {
            let same = others.iter().position(|other| other.name == row.name);
            rows.push((row, same.map(|at| others.remove(at))));
        }
        let alone = others
            .into_iter()
            .map(|other| (Row { value: Some(0.0), ..other.clone() }, Some(other)));
        rows.extend(alone);
        rows
    }

    /// The rows as text, in columns.
    pub(super) fn table(&self, other: Option<&Self>) -> String {
        let Self { program, version, what, machine, cores, seconds, .. } = self;
        let mut text = format!(
            "\n{program}, bastide {version}: {what}; {seconds:.1} s measured\n\
             {machine}, {cores} cores\n\n"
        );
        if other.is_some() {
            writeln!(text, "{:<34} {:>16} {:>16} {:>8}", "", "now", "before", "ratio")
                .expect("writing to a String does not fail");
        }
        for (row, before) in self.rows_beside(other) {
            let line = match (&before, other) {
                (Some(before), _) => format!(
                    "{:<34} {:>16} {:>16} {:>8}",
                    row.name,
                    row.text(),
                    before.text(),
                    ratio(&row, before)
                ),
                (None, _) => format!("{:<34} {:>16}", row.name, row.text()),
            };
            writeln!(text, "{}", line.trim_end()).expect("writing to a String does not fail");
        }
        text
    }
}

impl Row {
    pub(super) fn text(&self) -> String {
        let Some(value) = self.value else { return "-".to_owned() };
        match self.unit {
            Unit::Count => grouped(value),
            Unit::PerSecond => format!("{}/s", grouped(value)),
            Unit::Ms => format!("{value:.3} ms"),
            Unit::Us => format!("{value:.2} us"),
            Unit::Cores => format!("{value:.2} cores"),
            Unit::MiB => format!("{value:.1} MiB"),
        }
    }
}

/// How many times the other it is.
pub(super) fn ratio(now: &Row, before: &Row) -> String {
    match (now.value, before.value) {
        (Some(now), Some(before)) if before > 0.0 => format!("{:.2}", now / before),
        _ => String::new(),
    }
}

/// A whole number with its thousands apart.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in crate::load) fn outcome(messages: u64) -> Outcome {
        let mut slice = Slice::new(0);
        for n in 0..messages {
            slice.answered += 1;
            slice.latency.record(Duration::from_micros(100 + n));
        }
        slice.error("1002 busy, try again", 2);
        let server = Server { pids: vec![7], cpu_s: 0.5, memory_before: 1 << 20, memory: 3 << 20 };
        Outcome {
            format: FORMAT,
            program: "town".to_owned(),
            version: "0".to_owned(),
            at_ms: 0,
            machine: "a machine".to_owned(),
            cores: 2,
            what: "10 connections".to_owned(),
            connections: 10,
            connected: 9,
            seconds: 2.0,
            sent: messages,
            inputs: 0,
            answered: messages,
            in_time: messages,
            pushes: 0,
            errors: slice.errors.clone(),
            latency_ns: slice.latency.clone(),
            sign_in_ns: Latency::new(),
            server: Some(server),
            generator_cpu_s: None,
            series: vec![Second::from(&slice), Second { second: 1, ..Second::from(&slice) }],
        }
    }

    #[test]
    fn a_table_shows_every_figure_and_beside_another_both_and_the_ratio() {
        let (now, mut before) = (outcome(2000), outcome(1000));
        before.errors.insert("gate: hung up".to_owned(), 3);
        let table = now.table(None);
        for part in ["2,000", "1,000/s", "1002 busy", "250.00 us", "3.0 MiB", "latency p99.9"] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
        assert!(!table.contains("ratio"), "{table}");
        let table = now.table(Some(&before));
        let line = |name: &str| table.lines().find(|l| l.trim_start().starts_with(name)).unwrap();
        let words: Vec<_> = line("messages a second").split_whitespace().collect();
        assert_eq!(words, ["messages", "a", "second", "1,000/s", "500/s", "2.00"]);
        assert!(line("gate: hung up").ends_with("0.00"), "what only the other had: {table}");
    }

    #[test]
    fn a_file_comes_back_as_it_was_and_another_file_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let written = outcome(10);
        std::fs::write(&file, serde_json::to_vec(&written).unwrap()).unwrap();
        assert_eq!(Outcome::read(&file).unwrap(), written);
        let other = serde_json::to_string(&written).unwrap().replacen("1", "9", 1);
        for (text, part) in [("{}", "--json"), (&*other, "format 9")] {
            std::fs::write(&file, text).unwrap();
            let Mistake(said) = Outcome::read(&file).unwrap_err();
            assert!(said.contains("a.json") && said.contains(part), "{said}");
        }
    }

    #[test]
    fn thousands_stand_apart() {
        let cases = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (12_345_678.0, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
