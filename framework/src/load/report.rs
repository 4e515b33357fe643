//! Owns the report: one HTML page with the figures and plots of a measurement, and of another
//! beside it. It needs no other file, and every text in it is escaped.

use std::time::{Duration, UNIX_EPOCH};

use super::{
    chart::{Chart, Line, escaped},
    outcome::{Outcome, Second, ratio},
};

const STYLE: &str = "
:root{color-scheme:light dark;--text:#1c2430;--dim:#5d6878;--grid:#dfe4ea;--back:#fff;--a:#0b6bcb;--b:#c2410c;--c:#7c3aed}
@media(prefers-color-scheme:dark){:root{--text:#e6eaf0;--dim:#9aa5b4;--grid:#2c3440;--back:#12161c;--a:#5aa9ff;--b:#ff9354;--c:#b79bff}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}p{color:var(--dim);margin:.2rem 0}
table{border-collapse:collapse;margin:1.2rem 0;font-variant-numeric:tabular-nums}
th{font-weight:600}td,th{padding:.15rem .8rem .15rem 0;text-align:right;border-bottom:1px solid var(--grid)}
td:first-child,th:first-child{text-align:left;white-space:pre}
figure{margin:1.4rem 0}figcaption{font-weight:600}figcaption span{font-weight:400;margin-left:.8rem}
svg{width:100%;height:auto}text{font-size:11px;fill:var(--dim)}.y{text-anchor:end}.x{text-anchor:middle}
i{display:inline-block;width:1.4rem;border-top:3px solid;margin:0 .35rem .25rem 0}i.d{border-style:dashed}i.e{border-style:dotted}
.grid{stroke:var(--grid)}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.a{stroke:var(--a);color:var(--a)}.b{stroke:var(--b);color:var(--b)}.c{stroke:var(--c);color:var(--c)}
.d{stroke:var(--dim);color:var(--dim);stroke-dasharray:5 3}.e{stroke:var(--dim);color:var(--dim);stroke-dasharray:1 3}
";

/// The last moment with a year of four digits, in ms since 1970. Beyond: shown as this.
const LAST_MS: u64 = 253_402_300_799_000;

/// Shares of messages that the distribution is marked at.
const SHARES: [(f64, &str); 8] = [
    (0.0, "0"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
    (0.999_999, "99.9999 %"),
];

/// Points between two tens of the distribution.
const POINTS_PER_TEN: i32 = 20;

/// The page.
pub(super) fn page(outcome: &Outcome, other: Option<&Outcome>) -> String {
    let Outcome { program, version, what, machine, cores, seconds, at_ms, .. } = outcome;
    let title = escaped(&format!("{program}: {what}"));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let since = Duration::from_millis(u64::try_from(*at_ms).unwrap_or_default().min(LAST_MS));
    let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + since);
    let facts = format!(
        "{seconds:.1} s measured at {at}, on {machine} with {cores} cores; bastide {version}"
    );
    html.push_str(&format!("<p>{}</p>\n", escaped(&facts)));
    if let Some(other) = other {
        let before = escaped(&format!("{}, bastide {}", other.what, other.version));
        html.push_str(&format!("<p>Before: {before}</p>\n"));
    }
    html.push_str(&table(outcome, other));
    for chart in charts(outcome, other) {
        html.push_str(&chart.svg());
    }
    html.push_str("</body></html>\n");
    html
}

fn table(outcome: &Outcome, other: Option<&Outcome>) -> String {
    let head = match other {
        Some(_) => "<tr><th></th><th>now</th><th>before</th><th>ratio</th></tr>",
        None => "",
    };
    let mut table = format!("<table>{head}\n");
    for (row, before) in outcome.rows_beside(other) {
        let (name, now) = (escaped(&row.name), escaped(&row.text()));
        table.push_str(&format!("<tr><td>{name}</td><td>{now}</td>"));
        if other.is_some() {
            let text = before.as_ref().map(|b| escaped(&b.text())).unwrap_or_default();
            let ratio = before.as_ref().map(|before| ratio(&row, before)).unwrap_or_default();
            table.push_str(&format!("<td>{text}</td><td>{ratio}</td>"));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</table>\n");
    table
}

fn charts<'a>(outcome: &'a Outcome, other: Option<&'a Outcome>) -> Vec<Chart<'a>> {
    let over_time =
        |title, y_is_log, lines| Chart { title, y_is_log, x_marks: None, x_name: "seconds", lines };
    let line = |name, class, of: Option<&Outcome>, value: fn(&Second) -> Option<f64>| Line {
        name,
        class,
        points: of.map(|of| series(of, value)).unwrap_or_default(),
    };
    let now = Some(outcome);
    vec![
        over_time(
            "Messages a second",
            false,
            vec![
                line("now", "a", now, |s| Some(s.messages as f64)),
                line("errors", "b", now, |s| (s.errors > 0).then_some(s.errors as f64)),
                line("before", "d", other, |s| Some(s.messages as f64)),
            ],
        ),
        over_time(
            "Latency in ms",
            true,
            vec![
                line("p50", "a", now, |s| Some(s.p50_us / 1e3)),
                line("p99", "b", now, |s| Some(s.p99_us / 1e3)),
                line("max", "c", now, |s| Some(s.max_us / 1e3)),
                line("p50 before", "e", other, |s| Some(s.p50_us / 1e3)),
                line("p99 before", "d", other, |s| Some(s.p99_us / 1e3)),
            ],
        ),
        Chart {
            title: "Latency in ms, by the share of messages that it is not above",
            y_is_log: true,
            x_marks: Some(SHARES.map(|(share, text)| (nines(share), text.to_owned())).to_vec()),
            x_name: "share of messages",
            lines: vec![
                Line { name: "now", class: "a", points: distribution(outcome) },
                Line {
                    name: "before",
                    class: "d",
                    points: other.map(distribution).unwrap_or_default(),
                },
            ],
        },
        over_time(
            "Server CPU in cores",
            false,
            vec![
                line("now", "a", now, |s| s.server_cpu),
                line("before", "d", other, |s| s.server_cpu),
            ],
        ),
    ]
}

/// A value of each second that was measured whole.
fn series(of: &Outcome, value: fn(&Second) -> Option<f64>) -> Vec<(f64, f64)> {
    let whole = of.series.iter().filter(|second| (second.second as f64) < of.seconds);
    whole.filter_map(|second| Some((second.second as f64 + 1.0, value(second)?))).collect()
}

/// Where a share lies on an axis on which each nine has as much room.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// The latency of each share, up to the last message.
fn distribution(of: &Outcome) -> Vec<(f64, f64)> {
    let count = of.latency_ns.count();
    if count == 0 {
        return Vec::new();
    }
    let last = nines(1.0 - 1.0 / (count as f64 + 1.0));
    let steps = (last * f64::from(POINTS_PER_TEN)).ceil() as i32;
    let point = |step: i32| {
        let at = (f64::from(step) / f64::from(POINTS_PER_TEN)).min(last);
        let took = of.latency_ns.quantile(1.0 - 10f64.powf(-at));
        (at, took.as_secs_f64() * 1e3)
    };
    (0..=steps).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::outcome::tests::outcome;

    #[test]
    fn a_report_has_every_figure_and_four_plots_and_needs_no_other_file() {
        let html = page(&outcome(2000), Some(&outcome(1000)));
        assert_eq!(html.matches("<svg").count(), 4);
        for part in ["1,000/s", "500/s", "2.00", "latency p99.9", "99.9 %", "before", "1970-01-01"]
        {
            assert!(html.contains(part), "{part}");
        }
        for outside in ["src=", "href=", "http", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.len() < 64 * 1024, "{} bytes", html.len());
    }

    #[test]
    fn no_text_of_anybody_is_markup_in_it() {
        let evil = "<script>alert(1)</script>";
        let mut of = outcome(3);
        for text in [&mut of.program, &mut of.version, &mut of.what, &mut of.machine] {
            *text = evil.to_owned();
        }
        of.errors.insert(evil.to_owned(), 1);
        let html = page(&of, Some(&of));
        assert!(!html.contains("<script"), "{html}");
        assert!(html.matches("&lt;script&gt;").count() >= 6);
    }

    #[test]
    fn nothing_measured_is_a_report_too() {
        let mut of = outcome(0);
        (of.series, of.server, of.seconds) = (Vec::new(), None, 0.0);
        assert!(page(&of, None).contains("nothing to show"));
    }

    #[test]
    fn the_distribution_goes_from_the_least_to_the_most() {
        let points = distribution(&outcome(1000));
        let (first, last) = (points[0].1, points[points.len() - 1].1);
        assert!((first - 0.1).abs() < 0.001 && (last - 1.099).abs() < 0.002, "{first} {last}");
        assert!(points.windows(2).all(|two| two[0].1 <= two[1].1));
    }
}
