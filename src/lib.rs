//! ktally counts what the Linux kernel does, in BPF maps, and reads those maps.
//!
//! A tally is one C BPF file; the frontend learns everything about it from that
//! file's BTF. `docs/architecture.md` shows the modules and who may import whom.

#[cfg(target_endian = "big")]
compile_error!("ktally reads integers little-endian; big-endian hosts are not supported yet");

pub mod cli;
pub mod commands;
pub mod error;
pub mod export;
pub mod host;
mod internal;
pub mod map;
pub mod names;
pub mod query;
mod recording;
pub(crate) mod render;
pub mod schema;
pub mod snapshot;
pub mod sys;
pub mod tally;
mod text;
mod tui;
