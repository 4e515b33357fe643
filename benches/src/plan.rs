//! Owns what a benchmark of servers measures, as its arguments say it, and the table of it.

use std::time::Duration;

use crate::{Demand, Figures, Servers, median, run};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many connections, each number in turn.
    pub connections: Vec<usize>,
    /// How much they ask at a time; `None`: 1 and 32, where nothing is paced.
    depths: Option<Vec<usize>>,
    /// How much they ask a second.
    paces: Vec<usize>,
    /// How long one round counts.
    pub span: Duration,
    /// How often each is measured.
    pub rounds: usize,
}

impl Default for Plan {
    fn default() -> Self {
        let (span, rounds) = (Duration::from_secs(3), 5);
        Self { connections: vec![100, 1000], depths: None, paces: Vec::new(), span, rounds }
    }
}

impl Plan {
    /// The arguments that it knows.
    pub const ARGS: &str = "--connections, --depth, --paced, --seconds, --rounds";

    /// Takes an argument; whether it is one of its own.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn take(&mut self, arg: &str, value: &str) -> Result<bool, String> {
        match arg {
            "--connections" => self.connections = numbers(arg, value)?,
            "--depth" => self.depths = Some(numbers(arg, value)?),
            "--paced" => self.paces = numbers(arg, value)?,
            "--seconds" => self.span = Duration::from_secs(numbers(arg, value)?[0] as u64),
            "--rounds" => self.rounds = numbers(arg, value)?[0],
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How the load asks, one after the other.
    pub fn demands(&self) -> Vec<Demand> {
        let usual = if self.paces.is_empty() { vec![1, 32] } else { Vec::new() };
        let depths = self.depths.clone().unwrap_or(usual).into_iter().map(Demand::Depth);
        depths.chain(self.paces.iter().copied().map(Demand::Paced)).collect()
    }

    /// Measures each server in turn, as often as there are rounds: the figures of each.
    pub fn interleave<S>(
        &self,
        servers: &[S],
        start: impl AsyncFn(&S) -> Servers,
        connections: usize,
        demand: Demand,
    ) -> Vec<Vec<Figures>> {
        let mut figures = vec![Vec::new(); servers.len()];
        for _ in 0..self.rounds {
            for (server, figures) in servers.iter().zip(&mut figures) {
                figures.push(run(async || start(server).await, connections, demand, self.span));
            }
        }
        figures
    }
}

/// An argument's numbers: above 0, with commas between.
///
/// # Errors
/// What is wrong with them.
pub fn numbers(arg: &str, value: &str) -> Result<Vec<usize>, String> {
    let numbers = value.split(',').map(|n| n.parse::<usize>().ok().filter(|n| *n > 0));
    numbers.collect::<Option<_>>().ok_or_else(|| {
        format!("{arg} wants numbers above 0 with commas between them, and got {value:?}")
    })
}

/// What stands above the columns of [`row`].
pub const HEADING: &str = " messages/s CPU us/msg  x floor    (lo..hi)  p50 ms  p99 ms";

/// The medians of one server. The ratio is taken round by round, each against the floor of its own
/// minute.
pub fn row(of: &[Figures], floor: &[Figures]) -> String {
    let ratios: Vec<_> = of.iter().zip(floor).map(|(f, floor)| f.cpu_us / floor.cpu_us).collect();
    let lo = ratios.iter().copied().reduce(f64::min).unwrap_or_default();
    let hi = ratios.iter().copied().reduce(f64::max).unwrap_or_default();
    format!(
        "{:>11.0} {:>10.2} {:>8.2} {:>12} {:>7.2} {:>7.2}",
        median(of, |f| f.messages_per_s),
        median(of, |f| f.cpu_us),
        median(&ratios, |ratio| *ratio),
        format!("{lo:.2}..{hi:.2}"),
        median(of, |f| f.p50_ms),
        median(of, |f| f.p99_ms),
    )
}
