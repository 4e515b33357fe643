//! Owns what the operator sees while it is measured: a bar in a terminal, elsewhere plain lines.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::outcome::{Second, grouped};

/// On standard error: the table is on standard output.
pub(super) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let progress = Self { bar, is_terminal };
        progress.begin(0, "");
        progress
    }

    /// A new bar, of so many steps.
    pub(super) fn begin(&self, steps: u64, what: &'static str) {
        if self.is_terminal {
            let style = ProgressStyle::with_template("{prefix:>9} {bar:24} {pos}/{len}  {msg}");
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            // Its template is fixed; without it the bar looks otherwise.
            if let Ok(style) = style {
                self.bar.set_style(style);
            }
            self.bar.set_length(steps);
            self.bar.set_position(0);
            self.bar.set_prefix(what);
        }
    }

    /// So many connections are there, of so many that were tried.
    pub(super) fn connected(&self, connected: usize, tried: usize) {
        self.bar.set_position(connected as u64);
        self.bar.set_message(format!("connected, {} failed", tried - connected.min(tried)));
    }

    /// A second is over.
    pub(super) fn second(&self, second: &Second) {
        let ms = |us: f64| format!("{:.2} ms", us / 1e3);
        let (rate, errors) = (grouped(second.messages as f64), second.errors);
        let (p50, p99) = (ms(second.p50_us), ms(second.p99_us));
        let cpu = second.server_cpu.map(|c| format!("  server {c:.2} cores")).unwrap_or_default();
        let said = format!("{rate}/s  p50 {p50}  p99 {p99}  errors {errors}{cpu}");
        self.bar.set_position(second.second + 1);
        self.bar.set_message(said.clone());
        if !self.is_terminal {
            self.say(&format!("{:>4} s  {said}", second.second + 1));
        }
    }

    /// A sentence of its own.
    pub(super) fn say(&self, sentence: &str) {
        self.bar.suspend(|| {
            // When nobody reads it, the table and the exit code must do.
            let _nobody_reads = writeln!(std::io::stderr(), "{sentence}");
        });
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
