//! What the bytes of a map mean: C types, the tags beside them, and the tables,
//! columns and options that follow from both.
//!
//! Everything here is owned and pure, so it is tested without a kernel. Only
//! `btf` reads BTF through libbpf; names come from what implements [`Names`].

mod btf;
mod c;
mod counts;
mod declaration;
mod decode;
mod found;
mod hints;
mod histogram;
mod input;
mod label;
mod metric;
mod option;
mod parse;
mod statistic;
mod table;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
mod types;
mod under_way;
mod unit;
mod value;
mod word;

pub(crate) use btf::walk;
pub use btf::{KernelBtf, Schema};
pub(crate) use btf::{MapBtf, TABLE_TYPES, declared_types, kernel_btf_for, raw_btf};
pub use counts::Number;
pub(crate) use counts::no_counts;
pub use declaration::{Declaration, MapFacts};
pub use decode::{Names, Streamed};
pub(crate) use decode::{Plain, text};
pub(crate) use found::padding;
pub use hints::Hints;
pub(crate) use histogram::HistogramAt;
pub use histogram::{Histogram, Scale};
pub(crate) use input::{dotted, split};
pub use label::Label;
pub use metric::MetricKind;
pub(crate) use metric::{Form, Metric};
pub use option::OptionSpec;
pub use parse::{LeftOut, parse};
pub(crate) use statistic::Statistic;
pub(crate) use table::Part;
pub use table::Table;
pub(crate) use tags::Overview;
pub use tags::{Decoder, Tags};
pub use types::{Kind, Member, Place, Type, Variant};
pub(crate) use under_way::{ENDING, UnderWay};
pub use unit::Unit;
pub(crate) use unit::{plain as plain_number, whole as whole_number};
pub use value::Value;
pub use word::parse_number;
pub(crate) use word::with_unit;
