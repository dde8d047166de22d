//! Prometheus' text format, as Feast's server writes it: a family appears once something of it
//! was counted, numbers are written as Python writes floats.

use std::fmt::Write;

use super::families::{AnyFamily, Families};
use super::family::{Description, Labels};
use super::instrument::Histogram;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that was counted.
pub fn write(families: &Families) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in families.all() {
        match family {
            AnyFamily::Counters(family) => {
                let mut series = family.all();
                series.retain(|(_, counter)| counter.get() > 0);
                head(&mut text, &family.description, "counter", series.len());
                for (labels, counter) in series {
                    Line::new(&family.description, &labels).write(&mut text, counter.get() as f64);
                }
            }
            AnyFamily::Gauges(family) => {
                let series = family.all();
                head(&mut text, &family.description, "gauge", series.len());
                for (labels, gauge) in series {
                    Line::new(&family.description, &labels).write(&mut text, gauge.get());
                }
            }
            AnyFamily::Histograms(family) => {
                let mut series = family.all();
                series.retain(|(_, one)| !one.is_empty());
                head(&mut text, &family.description, "histogram", series.len());
                for (labels, one) in series {
                    histogram(&mut text, &Line::new(&family.description, &labels), &one);
                }
            }
        }
    }
    text
}

fn head(text: &mut String, description: &Description, kind: &str, series: usize) {
    if series > 0 {
        let Description { name, help, .. } = description;
        // Writing to a string can't fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }
}

fn histogram(text: &mut String, line: &Line<'_>, one: &Histogram) {
    let mut count = 0;
    for (bound, at_most) in one.cumulative() {
        count = at_most;
        Line { suffix: "_bucket", bound: Some(bound), ..*line }.write(text, at_most as f64);
    }
    Line { suffix: "_count", ..*line }.write(text, count as f64);
    Line { suffix: "_sum", ..*line }.write(text, one.sum());
}

/// One line but for its number.
struct Line<'a> {
    description: &'a Description,
    labels: &'a Labels,
    suffix: &'static str,
    // The upper bound of a bucket.
    bound: Option<f64>,
}

impl<'a> Line<'a> {
    fn new(description: &'a Description, labels: &'a Labels) -> Self {
        Line { description, labels, suffix: "", bound: None }
    }

    fn write(&self, text: &mut String, value: f64) {
        text.push_str(self.description.name);
        text.push_str(self.suffix);
        let mut separator = '{';
        for (label, value) in self.description.labels.iter().zip(self.labels) {
            text.push(separator);
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value);
            text.push('"');
            separator = ',';
        }
        if let Some(bound) = self.bound {
            text.push(separator);
            text.push_str("le=\"");
            number(text, bound);
            text.push('"');
            separator = ',';
        }
        if separator == ',' {
            text.push('}');
        }
        text.push(' ');
        number(text, value);
        text.push('\n');
    }
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

fn number(text: &mut String, number: f64) {
    let _ = match number {
        number if number == f64::INFINITY => text.write_str("+Inf"),
        number if number == f64::NEG_INFINITY => text.write_str("-Inf"),
        number => write!(text, "{number:?}"),
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_never_counted_is_not_there() {
        assert_eq!(write(&Families::default()), "");
    }

    #[test]
    fn lines_are_as_prometheus_reads_them() {
        let families = Families::default();
        families.statuses.with(&["a\"b\\c\nd", "present"]).add(3);
        families.online_requests.with(&[]).add(196);
        families.freshness.with(&["v", "p"]).set(50.25);
        families.materialization_duration.with(&["v"]).observe_duration(Duration::from_secs(2));

        let text = write(&families);

        let expected = [
            "# TYPE feast_online_features_request_total counter\n\
             feast_online_features_request_total 196.0\n",
            "{feature_view=\"a\\\"b\\\\c\\nd\",status=\"present\"} 3.0\n",
            "# TYPE feast_feature_freshness_seconds gauge\n\
             feast_feature_freshness_seconds{feature_view=\"v\",project=\"p\"} 50.25\n",
            "_bucket{feature_view=\"v\",le=\"1.0\"} 0.0\n",
            "_bucket{feature_view=\"v\",le=\"5.0\"} 1.0\n",
            "_bucket{feature_view=\"v\",le=\"+Inf\"} 1.0\n",
            "_count{feature_view=\"v\"} 1.0\n",
            "_sum{feature_view=\"v\"} 2.0\n",
        ];
        for lines in expected {
            assert!(text.contains(lines), "{lines}\nis not in\n{text}");
        }
    }
}
