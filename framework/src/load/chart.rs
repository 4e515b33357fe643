//! Owns plots: lines over an axis of time or of shares, as SVG that needs no other file. Leaves
//! what is plotted to `report`.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// Points of a line; a screen shows no more. Beyond: several become one, the highest of them.
const POINTS_MAX: usize = 720;

/// Points of one colour, joined.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Names its colour in the style of the page.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) y_is_log: bool,
    /// Where the x axis is marked, and with what; `None`: evenly, with numbers.
    pub(super) x_marks: Option<Vec<(f64, String)>>,
    pub(super) x_name: &'a str,
    pub(super) lines: Vec<Line<'a>>,
}

/// Text that is no markup.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// From values to places.
struct Scale {
    from: f64,
    to: f64,
    is_log: bool,
    place: (f64, f64),
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let form = |value: f64| if self.is_log { value.max(self.from).log10() } else { value };
        let (from, to) = (form(self.from), form(self.to));
        let share = if to > from { (form(value) - from) / (to - from) } else { 0.5 };
        self.place.0 + share.clamp(0.0, 1.0) * (self.place.1 - self.place.0)
    }

    /// Where it is marked: tens in a log scale, else some five round numbers.
    fn marks(&self) -> Vec<f64> {
        if self.is_log {
            let first = self.from.log10().ceil() as i32;
            let last = self.to.log10().floor() as i32;
            return (first..=last).take(20).map(|power| 10f64.powi(power)).collect();
        }
        let span = self.to - self.from;
        if span.is_nan() || span <= 0.0 {
            return vec![self.from];
        }
        let rough = span / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let fits = |step: &f64| *step * power >= rough;
        let step = [1.0, 2.0, 5.0].into_iter().find(fits).unwrap_or(10.0) * power;
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step).floor() as i64;
        (first..=last).take(20).map(|n| n as f64 * step).collect()
    }
}

impl Chart<'_> {
    /// The plot as a figure of a page.
    pub(super) fn svg(&self) -> String {
        let shown: Vec<_> = self.lines.iter().map(|line| (line, thinned(&line.points))).collect();
        let all = || shown.iter().flat_map(|(_, points)| points.iter().copied());
        let mut svg = String::new();
        let title = escaped(self.title);
        let mut put = |text: String| svg.push_str(&text);
        put(format!("<figure><figcaption>{title}{}</figcaption>\n", self.legend()));
        put(format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n"
        ));
        if all().next().is_none() {
            put(format!("<text x=\"{LEFT}\" y=\"{}\">nothing to show</text>", HEIGHT / 2.0));
            put("</svg></figure>\n".to_owned());
            return svg;
        }
        let (x, y) = self.scales(&all().collect::<Vec<_>>());
        for mark in y.marks() {
            let at = y.at(mark);
            put(format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                short(mark)
            ));
        }
        let evenly = || x.marks().into_iter().map(|mark| (mark, short(mark))).collect();
        for (mark, text) in self.x_marks.clone().unwrap_or_else(evenly) {
            if mark < x.from || mark > x.to {
                continue;
            }
            let (at, text, low) = (x.at(mark), escaped(&text), HEIGHT - BOTTOM);
            put(format!(
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{low}\"/>\
                 <text class=\"x\" x=\"{at:.1}\" y=\"{}\">{text}</text>\n",
                low + 15.0
            ));
        }
        let name = escaped(self.x_name);
        put(format!(
            "<text class=\"x\" x=\"{}\" y=\"{}\">{name}</text>\n",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 4.0
        ));
        for (line, points) in &shown {
            put(drawn(line.class, points, &x, &y));
        }
        put("</svg></figure>\n".to_owned());
        svg
    }

    fn legend(&self) -> String {
        let entry = |line: &Line<'_>| {
            let (class, name) = (line.class, escaped(line.name));
            format!(" <span class=\"{class}\"><i class=\"{class}\"></i>{name}</span>")
        };
        self.lines.iter().filter(|line| !line.points.is_empty()).map(entry).collect()
    }

    fn scales(&self, points: &[(f64, f64)]) -> (Scale, Scale) {
        let low = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max);
        let x = Scale {
            from: low(|p| p.0),
            to: high(|p| p.0),
            is_log: false,
            place: (LEFT, WIDTH - RIGHT),
        };
        let top = high(|p| p.1);
        let (from, to) = if self.y_is_log {
            // Whole tens, so that there is a mark on either side.
            let least = points.iter().map(|p| p.1).filter(|y| *y > 0.0);
            let least = least.fold(f64::INFINITY, f64::min).min(top.max(1e-3));
            let tens = |value: f64, round: fn(f64) -> f64| 10f64.powf(round(value.log10()));
            (tens(least, f64::floor), tens(top.max(least), f64::ceil))
        } else {
            (0.0, if top > 0.0 { top * 1.05 } else { 1.0 })
        };
        let y = Scale { from, to, is_log: self.y_is_log, place: (HEIGHT - BOTTOM, TOP) };
        (x, y)
    }
}

fn drawn(class: &str, points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut path = format!("<polyline class=\"line {class}\" points=\"");
    for (at, value) in points {
        write!(path, "{:.1},{:.1} ", x.at(*at), y.at(*value))
            .expect("writing to a String does not fail");
    }
    path.push_str("\"/>\n");
    // One point is no line.
    if let [(at, value)] = points {
        let (at, value) = (x.at(*at), y.at(*value));
        path.push_str(&format!(
            "<circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"3\"/>\n"
        ));
    }
    path
}

/// No more points than can be seen; what is no number is left out.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let fine: Vec<_> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let several = fine.len().div_ceil(POINTS_MAX).max(1);
    let highest = |a: (f64, f64), b: (f64, f64)| if b.1 > a.1 { b } else { a };
    fine.chunks(several).filter_map(|some| some.iter().copied().reduce(highest)).collect()
}

/// A number as an axis has room for it.
fn short(number: f64) -> String {
    let size = number.abs();
    match size {
        _ if size >= 1e6 => format!("{}M", trimmed(number / 1e6)),
        _ if size >= 1e4 => format!("{}k", trimmed(number / 1e3)),
        _ => trimmed(number),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart(points: Vec<(f64, f64)>, y_is_log: bool, name: &str) -> String {
        let lines = vec![Line { name, class: "a", points }];
        Chart { title: name, y_is_log, x_marks: None, x_name: name, lines }.svg()
    }

    proptest! {
        #[test]
        fn whatever_the_numbers_every_point_lies_in_the_plot(points in prop::collection::vec(any::<(f64, f64)>(), 0..50), small in prop::collection::vec((0f64..60.0, 0f64..1e6), 0..2000), log in any::<bool>()) {
            drop(chart(points, log, "any"));
            let svg = chart(small.clone(), log, "some");
            let drawn = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
            let count = drawn.unwrap_or_default().split_whitespace().inspect(|point| {
                let (x, y) = point.split_once(',').expect("two");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x), "{x}");
                assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y), "{y}");
            }).count();
            prop_assert!(count <= POINTS_MAX && (count > 0) != small.is_empty());
        }
    }

    #[test]
    fn no_text_is_markup() {
        let evil = "</svg><script>alert('1')</script>\"&";
        let svg = chart(vec![(0.0, 1.0), (1.0, 2.0)], false, evil);
        assert!(!svg.contains("<script") && !svg.contains("alert('"), "{svg}");
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert_eq!(
            escaped(evil),
            "&lt;/svg&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;"
        );
    }

    #[test]
    fn an_axis_is_marked_at_round_numbers() {
        let scale = |from, to, is_log| Scale { from, to, is_log, place: (0.0, 1.0) }.marks();
        assert_eq!(scale(0.0, 9.0, false), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(scale(0.1, 100.0, true), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!([short(12_500.0), short(0.25), short(2e6)], ["12.5k", "0.25", "2M"]);
    }
}
