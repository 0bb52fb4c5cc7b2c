//! The live view. What is known is a [`State`]; `State::next` takes a key or a reading
//! and changes it, and `draw` makes the cells of a terminal of it. Both are pure: no
//! map, no file descriptor, no clock.

mod draw;
mod feed;
mod glyphs;
mod input;
mod keys;
mod moves;
mod order;
mod overview;
mod past;
mod replay;
mod state;
mod tab;
mod words;

pub(crate) use draw::draw;
pub(crate) use feed::Feed;
pub(crate) use glyphs::Glyphs;
pub(crate) use overview::Overview;
pub(crate) use replay::{HISTORY, Replay};
pub(crate) use state::{Effect, Event, Host, Own, State};
pub(crate) use tab::Tab;

#[cfg(test)]
mod tests;
