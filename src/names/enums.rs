//! `enum:NAME` and `flags:NAME`: numbers by the names of an enum of the running
//! kernel, which differ from kernel to kernel. What all of an enum's names begin
//! with, its own name, is left out: of `skb_drop_reason`, `NO_SOCKET`.

use std::cell::OnceCell;

use super::registry::Decode;
use crate::schema::{KernelBtf, Place, Value, Variant, parse_number};

/// The names of an enum, read once.
struct Variants {
    of: String,
    known: OnceCell<Vec<Variant>>,
}

impl Variants {
    fn new(of: &str) -> Self {
        Self {
            of: of.to_owned(),
            known: OnceCell::new(),
        }
    }

    fn get(&self) -> &[Variant] {
        self.known.get_or_init(|| {
            let variants = KernelBtf::load().map(|btf| btf.enum_variants(&self.of));
            let mut variants = variants.unwrap_or_default();
            for variant in &mut variants {
                variant.name = short(&self.of, &variant.name).to_owned();
            }
            variants
        })
    }

    fn names(&self) -> Vec<String> {
        let variants = self.get().iter();
        variants.map(|variant| variant.name.clone()).collect()
    }

    /// The kernel's own name in full is known, too.
    fn number(&self, name: &str) -> Option<i128> {
        let name = short(&self.of, name);
        let variant = self.get().iter().find(|variant| variant.name == name);
        variant.map(|variant| variant.value)
    }

    /// Enums have signs: by the C type of the place.
    fn show<'a>(
        &self,
        place: &Place,
        bytes: &[u8],
        name: fn(&[Variant], i128) -> Option<String>,
    ) -> Option<Value<'a>> {
        let number = place.decode(bytes).integer()?;
        Some(Value::Text(name(self.get(), number)?.into()))
    }
}

/// The name of one number.
pub(super) struct Enum(Variants);

impl Enum {
    pub(super) fn new(of: &str) -> Self {
        Self(Variants::new(of))
    }
}

impl Decode for Enum {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        if raw {
            return None;
        }
        self.0.show(place, bytes, |variants, number| {
            let variant = variants.iter().find(|variant| variant.value == number);
            variant.map(|variant| variant.name.clone())
        })
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn number(&self, name: &str) -> Option<i128> {
        self.0.number(name)
    }
}

/// The names of the bits that are set, with `|` between them; bits without a name
/// as one number behind them.
pub(super) struct Flags(Variants);

impl Flags {
    pub(super) fn new(of: &str) -> Self {
        Self(Variants::new(of))
    }
}

impl Decode for Flags {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        if raw {
            return None;
        }
        self.0.show(place, bytes, flags)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn number(&self, names: &str) -> Option<i128> {
        names.split('|').try_fold(0, |bits, name| {
            let bit = parse_number(name).or_else(|| self.0.number(name))?;
            Some(bits | bit)
        })
    }
}

/// A variant's name without that of its enum, unless a number is left.
fn short<'a>(of: &str, name: &'a str) -> &'a str {
    let rest = name.strip_prefix(&of.to_uppercase());
    let rest = rest.and_then(|rest| rest.strip_prefix('_'));
    rest.filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        .unwrap_or(name)
}

fn flags(variants: &[Variant], number: i128) -> Option<String> {
    let mut rest = number;
    let mut names = Vec::new();
    for variant in variants {
        let is_bit = variant.value.count_ones() == 1;
        if is_bit && rest & variant.value != 0 {
            names.push(variant.name.clone());
            rest &= !variant.value;
        }
    }
    match (names.is_empty(), rest) {
        (true, _) => None,
        (false, 0) => Some(names.join("|")),
        (false, rest) => Some(format!("{}|{rest:#x}", names.join("|"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Type;

    fn variant(name: &str, value: i128) -> Variant {
        Variant {
            name: name.into(),
            value,
        }
    }

    #[test]
    fn bits_are_named_and_the_rest_is_told() {
        let known = [
            variant("NONE", 0),
            variant("READ", 1),
            variant("BOTH", 3),
            variant("WRITE", 2),
        ];
        assert_eq!(flags(&known, 1).as_deref(), Some("READ"));
        assert_eq!(flags(&known, 3).as_deref(), Some("READ|WRITE"));
        assert_eq!(flags(&known, 0x12).as_deref(), Some("WRITE|0x10"));
        assert_eq!(flags(&known, 0), None);
        assert_eq!(flags(&known, 0x10), None);
    }

    #[test]
    fn names_are_shown_without_that_of_their_enum() {
        let of = "skb_drop_reason";
        assert_eq!(short(of, "SKB_DROP_REASON_NO_SOCKET"), "NO_SOCKET");
        for whole in ["SKB_CONSUMED", "SKB_DROP_REASON_4", "SKB_DROP_REASON_", ""] {
            assert_eq!(short(of, whole), whole);
        }
    }

    /// `enum bpf_map_type` is in every kernel that has BTF.
    #[test]
    fn names_of_the_running_kernel() {
        if KernelBtf::load().is_err() {
            return;
        }
        let (of, name) = ("bpf_map_type", "ARRAY");
        let (types, bits) = (Enum::new(of), Flags::new(of));
        let (place, two) = (Place::whole(Type::unsigned(4)), 2u32.to_ne_bytes());
        let shown = |raw| types.show(&place, &two, raw).map(|it| it.to_string());
        assert_eq!(shown(false).as_deref(), Some(name));
        assert_eq!(shown(true), None);
        assert_eq!(types.number(name), Some(2));
        assert_eq!(types.number("BPF_MAP_TYPE_ARRAY"), Some(2));
        assert_eq!(bits.number(&format!("{name}|0x10")), Some(0x12));
        assert_eq!(Enum::new("no_such_enum_here").number(name), None);
    }
}
