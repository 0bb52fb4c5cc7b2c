//! What can be counted: `sched_switch`, `tracepoint:tcp:tcp_probe`, `cpu-clock@99`.

use anyhow::Result;

use crate::error::{unknown, usage};
use crate::schema::KernelBtf;

/// An event, and the kind of program for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A tracepoint with its arguments.
    Tracepoint(String),
}

/// As many letters as the object has room for.
const LONGEST: usize = 127;

impl Event {
    pub(crate) fn parse(text: &str, kernel: &KernelBtf) -> Result<Self> {
        if text.len() > LONGEST || text.contains('\0') {
            return Err(usage(format!(
                "an event's name has at most {LONGEST} letters"
            )));
        }
        if kernel.has_tracepoint(text) {
            return Ok(Self::Tracepoint(text.to_owned()));
        }
        let known = kernel.tracepoints();
        Err(unknown("event", text, known.iter().map(String::as_str)))
    }

    /// What it is called in results.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Tracepoint(name) => name,
        }
    }

    /// The kind of the program and what it attaches to, as a section says it.
    pub(crate) fn section(&self) -> (&'static str, &str) {
        match self {
            Self::Tracepoint(name) => ("tp_btf", name),
        }
    }
}
