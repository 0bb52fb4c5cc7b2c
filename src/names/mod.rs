//! Names for numbers: what the labels of a row are called on this host.
//!
//! A decoder that has no name for a number shows the number.

mod cache;
mod cgroup;
mod dev;
mod enums;
mod errno;
mod ip;
mod mappings;
mod net;
mod plain;
mod registry;
mod signal;
mod softirq;
mod stacks;
mod state;
mod symbols;
mod syscall;
mod time;
mod users;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use caps::Capability;

pub(crate) use self::cgroup::cgroup_folder;
use self::registry::{Decode, is_number};
pub use self::registry::{decoders, is_known};
use self::symbols::Symbols;
pub(crate) use self::symbols::functions_of;
pub(crate) use self::time::local;
use crate::error::unknown;
use crate::schema::{Decoder, Kind, Label, Names, OptionSpec, Place, Table, Value};

/// What a label shows: of an enum, its values.
pub fn meaning(label: &Label) -> Option<String> {
    match (&label.decoder, &label.place.ty.kind) {
        (Some(decoder), _) => registry::help(decoder).map(str::to_owned),
        (None, Kind::Enum { variants, .. }) => {
            let names: Vec<&str> = variants.iter().map(|it| it.name.as_str()).collect();
            Some(names.join(", "))
        }
        (None, _) => None,
    }
}

/// How often to look at what may be removed.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// The names that this host knows. Each decoder keeps what it looked up for the
/// next row, and no more of it than its cache allows, or than the kernel's enums
/// have.
#[derive(Default)]
pub struct HostNames {
    decoders: RefCell<BTreeMap<Decoder, Rc<dyn Decode>>>,
    symbols: Rc<Symbols>,
    raw: bool,
}

impl HostNames {
    /// With nothing looked up yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows numbers, for those who decode them elsewhere.
    pub(crate) fn raw() -> Self {
        Self {
            raw: true,
            ..Self::default()
        }
    }

    /// The capabilities that it takes to name what these tables show.
    pub(crate) fn capabilities<'t>(
        &self,
        tables: impl Iterator<Item = &'t Table>,
    ) -> Vec<Capability> {
        let labels = tables.flat_map(|table| table.labels.iter().chain(&table.details));
        let decoders = labels.filter_map(|label| label.decoder.as_ref());
        let needed = decoders.flat_map(|decoder| self.decoder(decoder).capabilities());
        needed.copied().filter(|_| !self.raw).collect()
    }

    /// The same for a map of any types.
    pub(crate) fn all_capabilities(&self) -> Vec<Capability> {
        let all = stacks::PROCESSES.iter().chain(stacks::KERNEL_SYMBOLS);
        all.copied().filter(|_| !self.raw).collect()
    }

    /// An option's value, out of the bytes of `.rodata`, as it could be typed.
    pub fn option<'a>(&self, option: &'a OptionSpec, rodata: &'a [u8]) -> Value<'a> {
        let decoder = option.decoder.as_ref();
        let value = decoder
            .and_then(|decoder| self.name(decoder, &option.place, rodata))
            .unwrap_or_else(|| option.place.decode(rodata));
        match (&option.unit, &option.place.ty.kind, value.integer()) {
            (Some(unit), _, Some(number)) => Value::Text(unit.exact(number).into()),
            (None, Kind::Char, Some(number @ 0x21..0x7f)) => {
                Value::Text(format!("{number} (`{}`)", number as u8 as char).into())
            }
            _ => value,
        }
    }

    /// Takes note of everything in these tables that may be removed: then it has
    /// no name that could be asked for. `false` where nothing may.
    pub(crate) fn look<'t>(&self, tables: impl Iterator<Item = &'t Table>) -> bool {
        let labels = tables.flat_map(|table| &table.labels);
        let decoders = labels.filter_map(|label| label.decoder.as_ref());
        !self.raw && decoders.filter(|it| self.decoder(it).look()).count() > 0
    }

    /// Takes note of what a process has mapped while it lives, so that its
    /// stacks have names later; `address` is where it was running.
    pub(crate) fn remember(&self, pid: u32, address: u64) {
        if !self.raw {
            self.symbols.remember(pid, address);
        }
    }

    /// What can be typed for a field that is shown like this.
    pub(crate) fn offers(&self, decoder: &Decoder) -> Vec<String> {
        self.decoder(decoder).offers()
    }

    fn symbols(&self) -> Rc<Symbols> {
        Rc::clone(&self.symbols)
    }

    fn decoder(&self, decoder: &Decoder) -> Rc<dyn Decode> {
        if let Some(known) = self.decoders.borrow().get(decoder) {
            return Rc::clone(known);
        }
        let made = registry::decoder(self, decoder);
        let mut decoders = self.decoders.borrow_mut();
        Rc::clone(decoders.entry(decoder.clone()).or_insert(made))
    }
}

impl Names for HostNames {
    fn name<'a>(&self, decoder: &Decoder, place: &Place, bytes: &'a [u8]) -> Option<Value<'a>> {
        self.decoder(decoder).show(place, bytes, self.raw)
    }

    fn number(&self, decoder: &Decoder, text: &str) -> Result<Option<i128>> {
        let known = self.decoder(decoder);
        let number = known.parse(text)?;
        if number.is_some() || is_number(text) {
            return Ok(number);
        }
        let names = known.names();
        if names.is_empty() {
            return Ok(None);
        }
        let names = names.iter().map(String::as_str);
        Err(unknown(decoder.name(), text, names))
    }

    fn described<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        let number = label.decoder.as_ref().zip(label.place.raw(key));
        let shown = number.and_then(|(decoder, number)| {
            let decoder = self.decoder(decoder);
            decoder.described(number, self.raw)
        });
        match shown {
            Some(shown) => Value::Text(shown.into()),
            None => self.of(label, key),
        }
    }

    fn joins(&self, label: &Label) -> bool {
        !self.raw && label.is_stack()
    }

    fn comes_and_goes(&self, label: &Label) -> bool {
        let decoder = label.decoder.as_ref();
        decoder.is_some_and(|decoder| self.decoder(decoder).comes_and_goes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Type, testing};

    fn label(size: usize, decoder: &str) -> Label {
        Label {
            name: String::new(),
            place: Place::whole(Type::unsigned(size)),
            decoder: Some(Decoder::from_tag(decoder)),
            with: None,
            idle: Vec::new(),
        }
    }

    fn check(names: &HostNames, cases: &[(&str, u32, &str)]) {
        for (decoder, number, shown) in cases {
            let (label, bytes) = (label(4, decoder), number.to_le_bytes());
            assert_eq!(names.of(&label, &bytes).to_string(), *shown, "{decoder}");
        }
    }

    const LOCALHOST: u32 = u32::from_le_bytes([127, 0, 0, 1]);
    const HTTPS: u32 = 443u16.to_be() as u32;

    #[test]
    fn decoders_show_names_and_fall_back_to_numbers() {
        let cases = [
            ("errno", 2, "ENOENT"),
            ("errno", 4000, "4000"),
            ("signal", 15, "SIGTERM"),
            ("signal", 0, "0"),
            ("state", 0x402, "idle"),
            ("state", 3, "3"),
            ("ksym", 0xbee, "0xbee"),
            ("softirq", 3, "NET_RX"),
            ("softirq", 10, "10"),
            ("hex", 255, "0xff"),
            ("bool", 2, "true"),
            ("pid", 42, "42"),
            ("cpu", 1, "1"),
            ("uid", 0, "root"),
            ("gid", 0, "root"),
            ("flags:no_such_enum_here", 3, "3"),
            ("uid", 4_000_000_000, "4000000000"),
            ("enum:no_such_enum_here", 3, "3"),
            ("tomorrow", 3, "3"),
            ("syscall", 1_000_000_000, "1000000000"),
            ("ipv4", LOCALHOST, "127.0.0.1"),
            ("port", HTTPS, "443"),
            ("port", 1 << 16, "65536"),
            ("ifindex", 1, "lo"),
            ("ifindex", 2_000_000_000, "2000000000"),
            ("netns", 1, "1"),
            ("dev", 4095 << 20 | 1, "4095:1"),
            ("cgroup", 4_000_000_000, "4000000000"),
        ];
        check(&HostNames::new(), &cases);
    }

    #[test]
    fn names_are_read_back() {
        let names = HostNames::new();
        let number = |decoder: &str, text: &str| {
            let decoder = Decoder::from_tag(decoder);
            names.number(&decoder, text).unwrap()
        };
        for (size, decoder, text) in [
            (4, "ipv4", "192.0.2.1"),
            (4, "port", "443"),
            (4, "ifindex", "lo"),
            (4, "dev", "4095:1"),
            (16, "ip", "192.0.2.1"),
            (8, "cgroup", "/"),
        ] {
            let bytes = number(decoder, text).unwrap().to_le_bytes();
            let label = label(size, decoder);
            assert_eq!(names.of(&label, &bytes[..size]).to_string(), text);
        }
        // As they are.
        for decoder in ["ifindex", "netns", "dev"] {
            assert_eq!(number(decoder, "3"), None, "{decoder}");
        }
    }

    #[test]
    fn raw_numbers_keep_their_notation() {
        let cases = [
            ("ksym", 0x8100_0000, "0x81000000"),
            ("hex", 42, "0x2a"),
            ("dev", 8 << 20 | 1, "8:1"),
            ("ipv4", LOCALHOST, "127.0.0.1"),
            ("port", HTTPS, "443"),
            ("errno", 2, "2"),
            ("bool", 1, "1"),
            ("ifindex", 1, "1"),
        ];
        check(&HostNames::raw(), &cases);
    }

    #[test]
    fn comm_ends_at_its_first_nul() {
        let mut comm = label(16, "comm");
        comm.place = Place::whole(testing::text(16));
        let value = HostNames::new().of(&comm, b"bash\0and the rest");
        // 17 bytes: the place says 16.
        assert_eq!(value, Value::Text("bash".into()));
    }
}
