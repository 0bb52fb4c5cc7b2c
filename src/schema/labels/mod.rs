//! Names for numbers: what the labels of a row are called on this host.
//!
//! A decoder that has no name for a number shows the number.

mod errno;
mod host;
mod softirq;
mod syscall;

use std::cell::RefCell;
use std::collections::HashMap;

use super::btf::KernelBtf;
use super::decode::{Value, text};
use super::table::{Label, OptionSpec};
use super::tags::Decoder;
use super::types::Place;

pub(crate) use host::{cgroup_id, user_id};

/// The names that were looked up, kept for the next row. Every cache is as
/// small as what it caches: the kernel's enums, the host's users.
#[derive(Default)]
pub struct Labels {
    enums: RefCell<HashMap<String, HashMap<i128, String>>>,
    users: RefCell<HashMap<u32, Option<String>>>,
}

impl Labels {
    /// With nothing looked up yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a row of this key is called in the label's column.
    pub fn of(&self, label: &Label, key: &[u8]) -> Value {
        self.decode(&label.place, label.decoder.as_ref(), key)
    }

    /// An option's value, out of the bytes of `.rodata`.
    pub fn option(&self, option: &OptionSpec, rodata: &[u8]) -> Value {
        let value = self.decode(&option.place, option.decoder.as_ref(), rodata);
        match (&option.unit, &value) {
            (Some(unit), Value::Uint(number)) => Value::Text(unit.scale(*number as f64)),
            _ => value,
        }
    }

    fn decode(&self, place: &Place, decoder: Option<&Decoder>, bytes: &[u8]) -> Value {
        let plain = || place.decode(bytes);
        let (Some(decoder), Some(number)) = (decoder, place.raw(bytes)) else {
            return plain();
        };
        let name = match decoder {
            Decoder::Comm => return place.bytes(bytes).map_or_else(plain, text),
            Decoder::Bool => return Value::Bool(number != 0),
            Decoder::Hex => Some(format!("{number:#x}")),
            Decoder::Syscall => syscall::name(number),
            Decoder::Errno => errno::name(number),
            Decoder::Softirq => softirq::name(number),
            Decoder::Uid => self.user(number),
            Decoder::Enum(name) => self.variant(name, &plain()),
            Decoder::Pid | Decoder::Cpu | Decoder::Cgroup | Decoder::Unknown(_) => None,
        };
        name.map_or_else(plain, Value::Text)
    }

    fn user(&self, number: u128) -> Option<String> {
        let uid = u32::try_from(number).ok()?;
        let mut users = self.users.borrow_mut();
        users
            .entry(uid)
            .or_insert_with(|| host::user_name(uid))
            .clone()
    }

    /// The name of a number in one of the running kernel's enums.
    fn variant(&self, name: &str, number: &Value) -> Option<String> {
        let number = match number {
            Value::Uint(number) => i128::try_from(*number).ok()?,
            Value::Int(number) => *number,
            _ => return None,
        };
        let mut enums = self.enums.borrow_mut();
        let variants = enums.entry(name.to_owned()).or_insert_with(|| {
            let variants = KernelBtf::load().map(|btf| btf.enum_variants(name));
            let variants = variants.unwrap_or_default().into_iter();
            variants
                .map(|variant| (variant.value, variant.name))
                .collect()
        });
        variants.get(&number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Kind, Type};

    fn label(size: usize, decoder: &str) -> Label {
        let mut tags = crate::schema::Tags::default();
        tags.add(&format!("ktally:as:{decoder}"));
        Label {
            name: String::new(),
            place: Place::whole(Type::unsigned(size)),
            decoder: tags.decoder,
        }
    }

    #[test]
    fn decoders_show_names_and_fall_back_to_numbers() {
        let labels = Labels::new();
        let text = |decoder: &str, number: u32| {
            labels
                .of(&label(4, decoder), &number.to_ne_bytes())
                .to_string()
        };
        assert_eq!(text("errno", 2), "ENOENT");
        assert_eq!(text("errno", 4000), "4000");
        assert_eq!(text("softirq", 3), "NET_RX");
        assert_eq!(text("softirq", 10), "10");
        assert_eq!(text("hex", 255), "0xff");
        assert_eq!(text("bool", 2), "true");
        assert_eq!(text("pid", 42), "42");
        assert_eq!(text("cpu", 1), "1");
        assert_eq!(text("uid", 0), "root");
        assert_eq!(text("uid", 4_000_000_000), "4000000000");
        assert_eq!(text("enum:no_such_enum_here", 3), "3");
        assert_eq!(text("tomorrow", 3), "3");
        assert_eq!(text("syscall", 1_000_000_000), "1000000000");
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
        let value = Labels::new().of(&comm, b"bash\0and the rest");
        // 17 bytes: the place says 16.
        assert_eq!(value, Value::Text("bash".into()));
    }
}
