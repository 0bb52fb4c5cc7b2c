//! What the bytes of a map mean: C types, the tags beside them, and the tables,
//! columns and options that follow from both.
//!
//! Everything here is owned and pure, so it is tested without a kernel. Only
//! `btf` reads BTF through libbpf; names come from what implements [`Names`].

mod btf;
mod c;
mod declaration;
mod decode;
mod histogram;
mod input;
mod parse;
mod table;
mod tags;
mod types;
mod unit;

pub use btf::{KernelBtf, MapBtf, Schema, declared_types, raw_btf};
pub use declaration::{Counts, Declaration, MapFacts, no_counts};
pub(crate) use decode::text;
pub use decode::{LengthMismatch, Names, Streamed, Value, decode};
pub use histogram::Histogram;
pub use input::dotted;
pub use parse::{LeftOut, parse, parse_number};
pub use table::{Label, Metric, MetricKind, Number, OptionSpec, Part, Table};
pub use tags::{Decoder, Tags};
pub use types::{Kind, Member, Place, Type, Variant};
pub use unit::{Unit, plain as plain_number, whole as whole_number};
