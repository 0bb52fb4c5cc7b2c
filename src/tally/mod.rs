//! Tallies: which there are, what they offer, and running them.

mod attach;
mod binary;
mod catalogue;
mod code;
mod compile;
mod count;
mod follow;
mod headers;
mod instance;
mod lint;
mod load;
mod load_error;
mod namespaces;
mod options;
mod reader;
mod section;
mod session;
mod sizes;
mod skeleton;
mod stack_processes;
mod support;
mod target;
mod under_way;

pub use binary::check_function;
pub use catalogue::Tally;
pub(crate) use compile::write_headers;
pub(crate) use count::with_world;
pub(crate) use follow::Command;
pub(crate) use headers::{template, template_names};
pub use instance::Meta;
pub(crate) use instance::{
    AttachOptions, Instance, InstanceName, Instances, TableUsage, group_id, measure,
    pinnable_by_others,
};
pub(crate) use load::Loader;
pub(crate) use namespaces::namespace_facts;
pub(crate) use options::with_fields;
pub use options::{RawOption, ResolvedOption, resolve};
pub(crate) use reader::{Cost, read_map};
pub use session::Session;
pub(crate) use stack_processes::StackProcess;
pub use support::{Support, fentry_fact};

pub(crate) use crate::sys::log::set_verbose;
