//! Names for numbers: what the labels of a row are called on this host.
//!
//! A decoder that has no name for a number shows the number.

mod cache;
mod cgroup;
mod dev;
mod enums;
mod errno;
mod ip;
mod net;
mod signal;
mod softirq;
mod stacks;
mod state;
mod symbols;
mod syscall;
mod time;
mod users;

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use anyhow::Result;
use caps::Capability;
use serde::Serialize;

pub use self::symbols::functions_of;

use self::cache::Cache;
use self::cgroup::Cgroups;
pub use self::cgroup::cgroup_folder;
use crate::error::unknown;
use crate::schema::{
    Decoder, Kind, Label, LeftOut, Member, Names, OptionSpec, Place, Streamed, Table, Tags, Value,
    named, parse, text,
};

/// The names that were looked up, kept for the next row; no more of them than
/// its cache allows, or than the kernel's enums have.
#[derive(Default)]
pub struct HostNames {
    enums: enums::Enums,
    users: Cache<u32>,
    groups: Cache<u32>,
    cgroups: RefCell<Cgroups>,
    devices: Cache<u32>,
    interfaces: Cache<u32>,
    namespaces: Cache<u32>,
    symbols: symbols::Symbols,
    stacks: stacks::Stacks,
    raw: bool,
}

/// /proc/kallsyms has zeroes for addresses without it.
const KERNEL_SYMBOLS: Capability = Capability::CAP_SYSLOG;
/// For what other users' processes have mapped, and for those files.
const PROCESSES: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

impl HostNames {
    /// With nothing looked up yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// That show numbers, for whoever decodes them elsewhere.
    pub fn raw() -> Self {
        Self {
            raw: true,
            ..Self::default()
        }
    }

    /// The capabilities that it takes to name what these tables show.
    pub fn capabilities(&self, tables: &[Table]) -> Vec<Capability> {
        let labels = tables
            .iter()
            .flat_map(|table| table.labels.iter().chain(&table.details));
        let decoders = labels.filter_map(|label| label.decoder.as_ref());
        let needed = decoders.flat_map(|decoder| match decoder {
            Decoder::Ksym | Decoder::Kstack => &[KERNEL_SYMBOLS][..],
            Decoder::Ustack => &PROCESSES[..],
            _ => &[],
        });
        needed.copied().filter(|_| !self.raw).collect()
    }

    /// The same for a map of any types.
    pub fn all_capabilities(&self) -> Vec<Capability> {
        let all = PROCESSES.into_iter().chain([KERNEL_SYMBOLS]);
        all.filter(|_| !self.raw).collect()
    }

    /// What a row of this key is called in the label's column.
    pub fn of<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        let name = label.decoder.as_ref();
        name.and_then(|decoder| self.name(decoder, &label.place, key))
            .unwrap_or_else(|| label.place.decode(key))
    }

    /// A whole key or value: by names where it, or a member, has a decoder.
    /// Hidden members are left out.
    pub fn whole<'a>(&self, place: &'a Place, tags: &Tags, bytes: &'a [u8]) -> Value<'a> {
        named(place, tags, bytes, self)
    }

    /// The same, decoded as it is serialized.
    pub fn streamed<'a>(
        &'a self,
        place: &'a Place,
        tags: &'a Tags,
        bytes: &'a [u8],
    ) -> impl Serialize + 'a {
        Streamed {
            place,
            tags,
            bytes,
            names: self,
        }
    }

    /// An option's value, out of the bytes of `.rodata`, as it could be typed.
    pub fn option<'a>(&self, option: &'a OptionSpec, rodata: &'a [u8]) -> Value<'a> {
        let decoder = option.decoder.as_ref();
        let value = decoder
            .and_then(|decoder| self.name(decoder, &option.place, rodata))
            .unwrap_or_else(|| option.place.decode(rodata));
        match (&option.unit, &option.place.ty.kind, signed(&value)) {
            (Some(unit), _, Some(number)) => Value::Text(unit.exact(number).into()),
            (None, Kind::Char, Some(number @ 0x21..0x7f)) => {
                Value::Text(format!("{number} (`{}`)", number as u8 as char).into())
            }
            _ => value,
        }
    }

    /// All names of a decoder that has as many on every host.
    fn names(&self, decoder: &Decoder) -> Vec<String> {
        let below = |most: u128, name: fn(u128) -> Option<String>| {
            let names = (0..most).filter_map(name);
            let is_name = |name: &String| !name.starts_with(|c: char| c.is_ascii_digit());
            names.filter(is_name).collect()
        };
        match decoder {
            Decoder::Syscall => below(1 << 10, syscall::name),
            Decoder::Errno => below(1 << 12, errno::name),
            Decoder::Signal => below(1 << 7, signal::name),
            Decoder::State => below(1 << 13, state::name),
            Decoder::Softirq => below(1 << 5, softirq::name),
            Decoder::Enum(of) | Decoder::Flags(of) => self.enums.names(of),
            Decoder::Bool => vec!["true".to_owned(), "false".to_owned()],
            _ => Vec::new(),
        }
    }

    /// The bytes of a label, at its own size, that this text stands for; `None`
    /// for what may get that name later. An error says why nothing can have it.
    pub fn typed(&self, label: &Label, text: &str) -> Result<Option<Vec<u8>>> {
        let comes_and_goes = matches!(
            label.decoder,
            Some(
                Decoder::Cgroup
                    | Decoder::Ifindex
                    | Decoder::Netns
                    | Decoder::Dev
                    | Decoder::Ksym
                    | Decoder::Kstack
                    | Decoder::Ustack
                    | Decoder::Time
            )
        );
        let place = label.place.at_start();
        let tags = Tags {
            decoder: label.decoder.clone(),
            ..Tags::default()
        };
        let mut bytes = vec![0; place.ty.size];
        match parse(&place, &tags, text, LeftOut::Refused, self, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(_) if comes_and_goes => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How often to look at what may be removed.
    pub const PAUSE: Duration = Cgroups::PAUSE;

    /// Whether a label can only be told of what somebody saw while it was there.
    pub fn may_be_removed(label: &Label) -> bool {
        label.decoder == Some(Decoder::Cgroup)
    }

    /// Takes note of every cgroup that there is.
    pub fn look_at_cgroups(&self) {
        if !self.raw {
            self.cgroups.borrow_mut().look();
        }
    }

    fn cgroup(&self, number: u128) -> Option<String> {
        let id = u64::try_from(number).ok()?;
        self.cgroups.borrow_mut().path(id)
    }
}

impl Names for HostNames {
    fn name<'a>(&self, decoder: &Decoder, place: &Place, bytes: &'a [u8]) -> Option<Value<'a>> {
        if *decoder == Decoder::Comm {
            return Some(text(place.bytes(bytes)?));
        }
        if let Some(frames) = self.stack(decoder, place.bytes(bytes).unwrap_or_default()) {
            return Some(Value::Text(Cow::Owned(frames)));
        }
        let number = place.raw(bytes)?;
        let name = match decoder {
            _ if self.raw => notation(decoder, number),
            Decoder::Bool => return Some(Value::Bool(number != 0)),
            Decoder::Syscall => syscall::name(number),
            Decoder::Errno => errno::name(number),
            Decoder::Signal => signal::name(number),
            Decoder::State => state::name(number),
            Decoder::Softirq => softirq::name(number),
            Decoder::Uid => cached(&self.users, number, users::user_name),
            Decoder::Gid => cached(&self.groups, number, users::group_name),
            Decoder::Enum(of) => self.enums.name(of, signed(&place.decode(bytes))?),
            Decoder::Flags(of) => self.enums.flags(of, signed(&place.decode(bytes))?),
            Decoder::Time => time::name(number),
            Decoder::Dev => cached(&self.devices, number, dev::name),
            Decoder::Ifindex => cached(&self.interfaces, number, net::interface_name),
            Decoder::Netns => cached(&self.namespaces, number, net::namespace_name),
            Decoder::Cgroup => self.cgroup(number),
            Decoder::Ksym => {
                let symbol = self.symbols.kernel(number);
                symbol.or_else(|| notation(decoder, number))
            }
            _ => notation(decoder, number),
        };
        name.map(|name| Value::Text(Cow::Owned(name)))
    }

    fn number(&self, decoder: &Decoder, name: &str) -> Result<Option<i128>> {
        // These are read by their own rules, numbers too.
        match decoder {
            Decoder::Uid if !name.starts_with("0x") => {
                return Ok(Some(users::user_id(name)?.into()));
            }
            Decoder::Gid if !name.starts_with("0x") => {
                return Ok(Some(users::group_id(name)?.into()));
            }
            Decoder::Cgroup if !name.starts_with("0x") => {
                return Ok(Some(cgroup::cgroup_id(name)?.into()));
            }
            Decoder::Ipv4 => return Ok(Some(ip::ipv4_number(name)?.into())),
            Decoder::Ip => return Ok(Some(ip::ip_number(name)? as i128)),
            Decoder::Port => return Ok(Some(ip::port_number(name)?.into())),
            Decoder::Dev if name.contains(':') => return Ok(Some(dev::number(name)?.into())),
            _ if name.starts_with(|c: char| c.is_ascii_digit() || c == '-') => return Ok(None),
            _ => {}
        }
        let number = match decoder {
            Decoder::Syscall => syscall::number(name),
            Decoder::Errno => errno::number(name),
            Decoder::Signal => signal::number(name),
            Decoder::State => state::number(name),
            Decoder::Softirq => softirq::number(name),
            Decoder::Enum(of) => self.enums.number(of, name),
            Decoder::Flags(of) => self.enums.flag_bits(of, name),
            Decoder::Dev => Some(dev::number(name)?.into()),
            Decoder::Ifindex => Some(net::interface_index(name)?.into()),
            Decoder::Netns => Some(net::namespace_inode(name)?.into()),
            Decoder::Bool if name == "true" => Some(1),
            Decoder::Bool if name == "false" => Some(0),
            _ => return Ok(None),
        };
        if number.is_none() {
            let known = self.names(decoder);
            let known = known.iter().map(String::as_str);
            return Err(unknown(decoder.name(), name, known));
        }
        Ok(number)
    }

    fn hides(&self, member: &Member) -> bool {
        member.is_hidden()
    }
}

/// A number that is never written in decimal, without looking up a name.
fn notation(decoder: &Decoder, number: u128) -> Option<String> {
    match decoder {
        Decoder::Hex | Decoder::Ksym => Some(format!("{number:#x}")),
        Decoder::Ipv4 => ip::ipv4(number),
        Decoder::Ip => ip::ip(number),
        Decoder::Port => ip::port(number),
        Decoder::Dev => Some(dev::numbers(u32::try_from(number).ok()?)),
        _ => None,
    }
}

/// Enums of the kernel have signs of their own.
fn signed(number: &Value<'_>) -> Option<i128> {
    match number {
        Value::Uint(number) => i128::try_from(*number).ok(),
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn cached(
    cache: &Cache<u32>,
    number: u128,
    look_up: impl FnOnce(u32) -> Option<String>,
) -> Option<String> {
    cache.get(u32::try_from(number).ok()?, look_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Type;

    fn label(size: usize, decoder: &str) -> Label {
        let mut tags = crate::schema::Tags::default();
        tags.add(&format!("ktally:as:{decoder}"));
        Label {
            name: String::new(),
            place: Place::whole(Type::unsigned(size)),
            decoder: tags.decoder,
            with: None,
        }
    }

    #[test]
    fn decoders_show_names_and_fall_back_to_numbers() {
        let labels = HostNames::new();
        let text = |decoder: &str, number: u32| {
            labels
                .of(&label(4, decoder), &number.to_ne_bytes())
                .to_string()
        };
        assert_eq!(text("errno", 2), "ENOENT");
        assert_eq!(text("errno", 4000), "4000");
        assert_eq!(text("signal", 15), "SIGTERM");
        assert_eq!(text("signal", 0), "0");
        assert_eq!(text("state", 0x402), "idle");
        assert_eq!(text("state", 3), "3");
        assert_eq!(text("ksym", 0xbee), "0xbee");
        assert_eq!(text("softirq", 3), "NET_RX");
        assert_eq!(text("softirq", 10), "10");
        assert_eq!(text("hex", 255), "0xff");
        assert_eq!(text("bool", 2), "true");
        assert_eq!(text("pid", 42), "42");
        assert_eq!(text("cpu", 1), "1");
        assert_eq!(text("uid", 0), "root");
        assert_eq!(text("gid", 0), "root");
        assert_eq!(text("flags:no_such_enum_here", 3), "3");
        assert_eq!(text("uid", 4_000_000_000), "4000000000");
        assert_eq!(text("enum:no_such_enum_here", 3), "3");
        assert_eq!(text("tomorrow", 3), "3");
        assert_eq!(text("syscall", 1_000_000_000), "1000000000");
        assert_eq!(
            text("ipv4", u32::from_ne_bytes([192, 0, 2, 1])),
            "192.0.2.1"
        );
        assert_eq!(text("port", u32::from_ne_bytes([1, 0xbb, 0, 0])), "443");
        assert_eq!(text("port", 1 << 16), "65536");
        assert_eq!(text("ifindex", 1), "lo");
        assert_eq!(text("ifindex", 2_000_000_000), "2000000000");
        assert_eq!(text("netns", 1), "1");
        assert_eq!(text("dev", 4095 << 20 | 1), "4095:1");
        assert_eq!(text("cgroup", 4_000_000_000), "4000000000");
    }

    #[test]
    fn names_are_read_back() {
        let labels = HostNames::new();
        let number = |decoder: &str, text: &str| {
            let decoder = label(4, decoder).decoder.unwrap();
            labels.number(&decoder, text).unwrap()
        };
        for (decoder, text) in [
            ("ipv4", "192.0.2.1"),
            ("port", "443"),
            ("ifindex", "lo"),
            ("dev", "4095:1"),
        ] {
            let bytes = number(decoder, text).unwrap().to_le_bytes();
            let label = label(4, decoder);
            assert_eq!(labels.of(&label, &bytes[..4]).to_string(), text);
        }
        let bytes = number("ip", "192.0.2.1").unwrap().to_le_bytes();
        let label = label(16, "ip");
        assert_eq!(labels.of(&label, &bytes).to_string(), "192.0.2.1");
        assert_eq!(
            number("cgroup", "/"),
            Some(cgroup::cgroup_id("/").unwrap().into())
        );
        // As they are.
        for (decoder, text) in [("ifindex", "3"), ("netns", "3"), ("dev", "3")] {
            assert_eq!(number(decoder, text), None, "{decoder}");
        }
    }

    #[test]
    fn raw_numbers_keep_their_notation() {
        let text = |decoder: &str, number: u32| {
            let (label, bytes) = (label(4, decoder), number.to_le_bytes());
            HostNames::raw().of(&label, &bytes).to_string()
        };
        for (decoder, number, shown) in [
            ("ksym", 0x8100_0000, "0x81000000"),
            ("hex", 42, "0x2a"),
            ("dev", 8 << 20 | 1, "8:1"),
            ("ipv4", u32::from_le_bytes([192, 0, 2, 1]), "192.0.2.1"),
            ("port", u32::from(443u16.to_be()), "443"),
            ("errno", 2, "2"),
            ("bool", 1, "1"),
            ("ifindex", 1, "1"),
        ] {
            assert_eq!(text(decoder, number), shown, "{decoder}");
        }
    }

    #[test]
    fn comm_ends_at_its_first_nul() {
        let mut comm = label(16, "comm");
        comm.place = Place::whole(std::sync::Arc::new(Type {
            name: String::new(),
            size: 16,
            kind: Kind::Array {
                element: std::sync::Arc::new(Type {
                    name: "char".into(),
                    size: 1,
                    kind: Kind::Char,
                }),
                len: 16,
            },
        }));
        let value = HostNames::new().of(&comm, b"bash\0and the rest");
        // 17 bytes: the place says 16.
        assert_eq!(value, Value::Text("bash".into()));
    }
}
