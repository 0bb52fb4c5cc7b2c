//! Tallies: which there are, what they offer, and running them.

mod attach;
mod binary;
mod catalogue;
mod compile;
mod follow;
mod instance;
mod namespaces;
mod options;
mod section;
mod session;
mod sightings;
mod support;

pub use binary::check_function;
pub use catalogue::{Storage, Tally, builtin_names};
pub use follow::Command;
pub use instance::{
    Attached, Cost, Fill, Folder, Instance, Label, Member, Meta, Plan, group_id, measure,
    pinnable_by_others,
};
pub use namespaces::namespace_facts;
pub use options::{Given, ResolvedOption, resolve};
pub use session::Session;
pub use sightings::Sighting;
pub use support::{Support, fentry_fact};

pub use crate::sys::log::set_verbose;
