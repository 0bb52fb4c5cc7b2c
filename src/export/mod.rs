//! What `ktally export` serves, as pure functions: which rows get a series, what a
//! request asks for, and the objects of the API. No socket, no map, no clock.

pub(crate) mod answer;
mod request;
mod served;
mod view;

pub(crate) use request::{Route, dialect, route};
pub use request::{is_host_of, takes_gzip};
pub(crate) use served::Served;
pub use view::View;

pub use crate::render::labels;
