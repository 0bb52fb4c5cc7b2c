//! Families as text, piece by piece: a hundred thousand series never stand in memory
//! as text.

use super::family::{Families, Family, FamilyKind, Samples};
use super::number::{Number, canonical};
use crate::schema::{Histogram, Metric};

/// The two formats, which differ in what stands over the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenMetrics,
    /// Text 0.0.4.
    Prometheus,
}

impl Dialect {
    /// As HTTP names it.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// How far encoding has come.
#[derive(Debug)]
pub(crate) struct Encoder {
    dialect: Dialect,
    family: usize,
    samples: usize,
    row: usize,
    has_head: bool,
    /// Of the histogram that is being written.
    edges: Vec<String>,
}

impl Encoder {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            family: 0,
            samples: 0,
            row: 0,
            has_head: false,
            edges: Vec::new(),
        }
    }

    /// Writes the next piece, of about `limit` bytes. Whether more follows.
    pub(crate) fn fill(&mut self, families: &Families, out: &mut Vec<u8>, limit: usize) -> bool {
        while let Some(family) = families.0.get(self.family) {
            if !self.has_head {
                self.head(family, out);
                self.has_head = true;
            }
            match family.samples.get(self.samples) {
                Some(samples) => self.write(family, samples, out, limit),
                None => {
                    self.family += 1;
                    self.samples = 0;
                    self.has_head = false;
                }
            }
            if out.len() >= limit {
                return true;
            }
        }
        if self.dialect == Dialect::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
        false
    }

    fn head(&self, family: &Family, out: &mut Vec<u8>) {
        let Family {
            name, help, kind, ..
        } = family;
        let is_open = self.dialect == Dialect::OpenMetrics;
        let total = match (kind, is_open) {
            (FamilyKind::Counter, false) => "_total",
            _ => "",
        };
        let kind = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
        };
        // One of the formats escapes quotes in help, the other does not.
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let help = help.replace('"', "'");
        let mut text = format!("# HELP {name}{total} {help}\n# TYPE {name}{total} {kind}\n");
        if let Some(unit) = family.unit.as_ref().filter(|_| is_open) {
            text += &format!("# UNIT {name} {unit}\n");
        }
        out.extend_from_slice(text.as_bytes());
    }

    fn write(&mut self, family: &Family, samples: &Samples, out: &mut Vec<u8>, limit: usize) {
        match samples {
            Samples::One { labels, value } => {
                let name = sample_name(family);
                sample(out, &name, [labels, ""], *value);
            }
            Samples::Rows {
                series,
                metric,
                decimals,
                more,
            } => {
                let name = sample_name(family);
                if self.row == 0 {
                    self.edges = edges(metric, *decimals);
                }
                while self.row < series.len() {
                    if out.len() >= limit {
                        return;
                    }
                    if let Some((labels, cells)) = series.get(self.row) {
                        match family.kind {
                            FamilyKind::Histogram => {
                                let histogram = metric.histogram(cells);
                                self.histogram(out, &name, [labels, more], (&histogram, *decimals));
                            }
                            _ => {
                                if let Some(value) = Number::of_row(metric, cells, *decimals) {
                                    sample(out, &name, [labels, more], value);
                                }
                            }
                        }
                    }
                    self.row += 1;
                }
            }
        }
        self.samples += 1;
        self.row = 0;
    }

    fn histogram(
        &self,
        out: &mut Vec<u8>,
        name: &str,
        labels: [&str; 2],
        (histogram, decimals): (&Histogram, usize),
    ) {
        let mut count = 0_u64;
        for (bucket, edge) in histogram.buckets.iter().zip(&self.edges) {
            count = count.wrapping_add(*bucket);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"_bucket{");
            for label in labels.into_iter().filter(|label| !label.is_empty()) {
                out.extend_from_slice(label.as_bytes());
                out.push(b',');
            }
            out.extend_from_slice(edge.as_bytes());
            Number::from(count).write(out);
            out.push(b'\n');
        }
        // The format allows a histogram that lacks its sum.
        if let Some(sum) = histogram.sum() {
            let sum = Number::new(sum.into(), decimals);
            sample(out, &format!("{name}_sum"), labels, sum);
        }
        sample(out, &format!("{name}_count"), labels, count.into());
    }
}

fn sample_name(family: &Family) -> String {
    match family.kind {
        FamilyKind::Counter => format!("{}_total", family.name),
        _ => family.name.clone(),
    }
}

/// `le="0.5"} ` of each bucket, the last of which has everything.
fn edges(metric: &Metric, decimals: usize) -> Vec<String> {
    let scale = metric.scale();
    let base = 10_f64.powi(decimals as i32);
    let edge = |i| match i + 1 == Histogram::BUCKETS {
        true => "+Inf".to_owned(),
        false => canonical(scale.edge(i) as f64 / base),
    };
    (0..Histogram::BUCKETS)
        .map(|i| format!("le=\"{}\"}} ", edge(i)))
        .collect()
}

fn sample(out: &mut Vec<u8>, name: &str, labels: [&str; 2], value: Number) {
    out.extend_from_slice(name.as_bytes());
    let mut before = b'{';
    for label in labels.into_iter().filter(|label| !label.is_empty()) {
        out.push(before);
        out.extend_from_slice(label.as_bytes());
        before = b',';
    }
    if before == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    value.write(out);
    out.push(b'\n');
}
