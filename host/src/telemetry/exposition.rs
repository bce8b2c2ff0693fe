//! Writes metrics in Prometheus' text format.

use std::fmt::Write as _;

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, while its subject runs.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Samples of one metric, under one name.
struct Family {
    name: String,
    kind: Kind,
    help: &'static str,
    samples: String,
}

/// Metrics by name, in the order in which they first came.
#[derive(Default)]
pub struct Exposition {
    families: Vec<Family>,
    index: std::collections::HashMap<String, usize>,
}

impl Exposition {
    /// A sample. Labels are given as pairs; their values may hold anything.
    pub fn sample(&mut self, metric: (&str, Kind, &'static str), labels: &[(&str, &str)], value: f64) {
        let (name, kind, help) = metric;
        let place = *self.index.entry(name.to_owned()).or_insert_with(|| {
            self.families.push(Family { name: name.to_owned(), kind, help, samples: String::new() });
            self.families.len() - 1
        });
        let family = &mut self.families[place];
        family.samples.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _ = write!(family.samples, "{open}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            family.samples.push('}');
        }
        let _ = match value {
            f64::INFINITY => writeln!(family.samples, " +Inf"),
            value => writeln!(family.samples, " {value}"),
        };
    }

    /// The whole text.
    pub fn finish(self) -> String {
        let mut text = String::new();
        for family in self.families {
            let kind = if family.kind == Kind::Counter { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", family.name, family.help, family.name);
            text.push_str(&family.samples);
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_stand_together_and_labels_are_escaped() {
        let mut exposition = Exposition::default();
        let (a, b) = (("a_total", Kind::Counter, "As."), ("b", Kind::Gauge, "Bs."));
        exposition.sample(a, &[("connector", "x\"\\\ny")], 1.0);
        exposition.sample(b, &[], 0.5);
        exposition.sample(a, &[("connector", "z"), ("task", "0")], 2.0);
        assert_eq!(
            exposition.finish(),
            "# HELP a_total As.\n# TYPE a_total counter\na_total{connector=\"x\\\"\\\\\\ny\"} 1\na_total{connector=\"z\",task=\"0\"} 2\n\
             # HELP b Bs.\n# TYPE b gauge\nb 0.5\n"
        );
    }
}
