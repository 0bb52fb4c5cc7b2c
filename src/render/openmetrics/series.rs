//! Rows of a table as series: the text of their labels, and their cells.

use std::borrow::Cow;
use std::sync::Arc;

use crate::schema::{Metric, Table};

/// Texts one behind the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub(crate) fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }
}

impl<'t> FromIterator<&'t str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        let mut all = Self::default();
        texts.into_iter().for_each(|text| all.push(text));
        all
    }
}

/// The rows of one reading of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// Of each slot. There may be more of them than slots with cells.
    labels: Arc<Texts>,
    width: usize,
    cells: Vec<u64>,
    /// The slots that have a row in this reading.
    present: Vec<bool>,
}

impl Series {
    /// No rows yet.
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            width: table.cells(),
            ..Self::default()
        }
    }

    /// Adds the cells of a row to a slot.
    pub(crate) fn add(&mut self, slot: u32, cells: &[u64], metrics: &[Metric]) {
        let slot = slot as usize;
        if slot >= self.present.len() {
            self.present.resize(slot + 1, false);
            self.cells.resize((slot + 1) * self.width, 0);
        }
        let sums = &mut self.cells[slot * self.width..][..self.width];
        if std::mem::replace(&mut self.present[slot], true) {
            metrics.iter().for_each(|metric| metric.add(sums, cells));
        } else {
            sums.copy_from_slice(cells);
        }
    }

    /// With the labels of its slots.
    pub(crate) fn named(self, labels: Arc<Texts>) -> Self {
        Self { labels, ..self }
    }

    /// Each series that has a row: its labels and its cells.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u64])> {
        (0..self.len()).filter_map(|slot| self.get(slot))
    }

    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    /// The labels and cells of a slot, if it has a row.
    pub(super) fn get(&self, slot: usize) -> Option<(&str, &[u64])> {
        self.present[slot].then(|| {
            let cells = &self.cells[slot * self.width..][..self.width];
            (self.labels.get(slot), cells)
        })
    }
}

/// `comm="bash",call="read"`: the labels of a row, from its names.
pub(crate) fn row_labels(table: &Table, names: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for (label, name) in table.labels.iter().zip(names) {
        push_label(&mut text, &label_name(&label.name), &name);
    }
    text
}

/// Adds a label to others. `name` is valid.
pub(super) fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    text.push_str(&escaped(value));
    text.push('"');
}

/// The three characters that the format escapes in a label's value.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(value.replace('\n', "\\n"))
}

/// A name that the format allows, and that means nothing else there.
fn label_name(name: &str) -> String {
    let name = identifier(name);
    let is_reserved = ["le", "quantile", "instance", "job", "tally"].contains(&&*name);
    match is_reserved || name.starts_with("__") {
        true => format!("key_{name}"),
        false => name,
    }
}

/// Letters, digits and `_`, and no digit in front.
pub(super) fn identifier(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut name: String = text
        .chars()
        .map(|c| if is_word(c) { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert(0, '_');
    }
    name
}
