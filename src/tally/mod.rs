//! Tallies: which there are, what they offer, and running them.

mod attach;
mod catalogue;
mod compile;
mod options;
mod session;
mod support;

pub use catalogue::{Storage, Tally, builtin_names};
pub use options::{Given, ResolvedOption, resolve};
pub use session::Session;
pub use support::{Support, fentry_fact};

pub use crate::sys::log::set_verbose;
