//! Recordings: the intervals of a live view as lines of JSON, and back. Pure, but for
//! the file that is read.

mod comparison;
mod dictionary;
mod document;
mod file;
mod head;
mod line;
mod writer;

pub(crate) use comparison::{ComparedRow, Comparison, Measure};
pub(crate) use dictionary::Dictionary;
pub(crate) use document::Document;
pub(crate) use file::{Frame, Recording};
pub(crate) use head::{Head, TabHead};
pub(crate) use writer::Recorder;

#[cfg(test)]
mod tests;
