//! `ktally count`: from words to a plan of what a prebuilt program reads. Pure: types
//! come from BTF, and nothing here loads anything.

mod c;
mod column;
mod condition;
mod event;
mod expression;
mod field;
mod interval;
mod members;
mod offer;
mod plan;
mod record;
mod resolve;
mod scope;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use c::c_name;
pub(crate) use column::{Column, Measure};
pub use event::World;
pub(crate) use field::Stored;
pub(crate) use offer::{Known, Offer, known_events, offers};

pub use plan::{Plan, Query};
