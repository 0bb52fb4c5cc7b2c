//! The columns of a key and a value: what is kept of a number.

use anyhow::Result;

use super::field::Field;
use super::interval::TIME;
use super::plan::{Query, most};
use crate::error::usage;
use crate::schema::Histogram;

/// `COUNT_VALUES`.
const MOST_VALUES: usize = 4;

/// A part of the key or the value.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) field: Field,
    pub(crate) name: String,
    pub(crate) at: usize,
    pub(crate) measure: Measure,
    /// What the user calls it, if that is a unit.
    pub(crate) unit: Option<String>,
}

/// `enum count_measure`, and the step of a linear histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// A part of the key.
    Key,
    Sum,
    Max,
    Min,
    Log2,
    Linear(u64),
}

impl Column {
    /// What it counts, in words.
    pub(crate) fn help(&self) -> String {
        let what = match self.measure {
            Measure::Max => "the greatest",
            Measure::Min => "the least",
            Measure::Log2 | Measure::Linear(_) => "the distribution of",
            Measure::Key | Measure::Sum => "the sum of",
        };
        format!("{what} {}", self.field.name)
    }
}

impl Measure {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Key => 0,
            Self::Sum => 1,
            Self::Max => 2,
            Self::Min => 3,
            Self::Log2 => 4,
            Self::Linear(_) => 5,
        }
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Log2 | Self::Linear(_) => 8 * Histogram::CELLS,
            _ => 8,
        }
    }
}

/// The flag, the expression and the kind of each column of numbers.
pub(super) fn measures(query: &Query) -> Result<Vec<(&'static str, &str, Measure)>> {
    let mut measures = Vec::new();
    let all = [
        ("--sum", &query.sum, Measure::Sum),
        ("--max", &query.max, Measure::Max),
        ("--min", &query.min, Measure::Min),
    ];
    for (flag, texts, measure) in all {
        measures.extend(texts.iter().map(|text| (flag, text.as_str(), measure)));
    }
    for text in &query.histogram {
        let (text, measure) = match text.split_once(':') {
            None => (text.as_str(), Measure::Log2),
            Some((text, step)) => {
                let step = step.parse().ok().filter(|step| *step > 0);
                let step: u32 = step.ok_or_else(|| {
                    usage(format!("--histogram `{text}`: write the width of a bucket, 1 or more, after the `:`"))
                })?;
                (text, Measure::Linear(step.into()))
            }
        };
        measures.push(("--histogram", text, measure));
    }
    if query.to.is_some() && measures.is_empty() {
        measures.push(("--histogram", TIME, Measure::Log2));
    }
    if measures.len() > MOST_VALUES {
        return Err(most(
            "--sum, --max, --min or --histogram",
            measures.len(),
            MOST_VALUES,
        ));
    }
    Ok(measures)
}

pub(super) fn value(field: Field, measure: Measure, unit: Option<String>) -> Result<Column> {
    if !field.stored.is_number() || field.is_pointer() {
        let (name, ty) = (&field.name, &field.c_type);
        return Err(usage(format!("`{name}` is a `{ty}`, not a number")));
    }
    let suffix = match measure {
        Measure::Sum => ".sum",
        Measure::Max => ".max",
        Measure::Min => ".min",
        _ => "",
    };
    Ok(Column {
        name: format!("{}{suffix}", field.name),
        field,
        at: 0,
        measure,
        unit,
    })
}

/// Behind the number of events.
pub(super) fn values_of(mut columns: Vec<Column>) -> Result<(Vec<Column>, usize)> {
    let mut end = 8;
    for column in &mut columns {
        column.at = end;
        end += column.measure.size();
    }
    for (i, column) in columns.iter().enumerate() {
        let name = &column.name;
        let is_histogram =
            |it: &Column| it.measure != Measure::Sum && format!("{}.sum", it.name) == *name;
        if columns[..i].iter().any(|it| it.name == *name) {
            return Err(usage(format!("`{name}` is asked for twice")));
        }
        if columns.iter().any(is_histogram) {
            return Err(usage(format!(
                "the histogram has `{name}` as well; leave out --sum"
            )));
        }
    }
    Ok((columns, end))
}
