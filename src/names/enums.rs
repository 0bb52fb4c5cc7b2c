//! `enum:NAME` and `flags:NAME`: numbers by the names of an enum of the running
//! kernel, which differ from kernel to kernel. What all of an enum's names begin
//! with, its own name, is left out: of `skb_drop_reason`, `NO_SOCKET`. And `gfp`: flags
//! of allocations, by an enum of their bits.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::registry::Decode;
use crate::schema::{KernelBtf, Place, Value, Variant, parse_number};

/// Shows the name of a number; of flags the names of the bits that are set, with
/// `|` between them, and bits without a name as one number behind them.
pub(super) struct Enum {
    of: String,
    is_flags: bool,
    variants: OnceCell<Vec<Variant>>,
}

impl Enum {
    pub(super) fn new(of: &str, is_flags: bool) -> Self {
        Self {
            of: of.to_owned(),
            is_flags,
            variants: OnceCell::new(),
        }
    }

    fn variants(&self) -> &[Variant] {
        self.variants.get_or_init(|| {
            let variants = KernelBtf::load().map(|btf| btf.enum_variants(&self.of));
            let mut variants = variants.unwrap_or_default();
            for variant in &mut variants {
                variant.name = short(&self.of, &variant.name).to_owned();
            }
            variants
        })
    }

    /// The kernel's own name in full is known, too.
    fn value(&self, name: &str) -> Option<i128> {
        let name = short(&self.of, name);
        let variant = self.variants().iter().find(|variant| variant.name == name);
        variant.map(|variant| variant.value)
    }
}

impl Decode for Enum {
    /// Enums have signs: by the C type of the place.
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        if raw {
            return None;
        }
        let number = place.decode(bytes).integer()?;
        let name = if self.is_flags {
            flags(self.variants(), number)?
        } else {
            let mut variants = self.variants().iter();
            variants.find(|it| it.value == number)?.name.clone()
        };
        Some(Value::Text(name.into()))
    }

    fn names(&self) -> Vec<String> {
        let variants = self.variants().iter();
        variants.map(|variant| variant.name.clone()).collect()
    }

    fn number(&self, text: &str) -> Option<i128> {
        if !self.is_flags {
            return self.value(text);
        }
        bits(text, |name| self.value(name))
    }
}

/// The flags of `gfp_t`, which are numbers of bits in an enum since Linux 6.10. Before
/// that the kernel does not tell their names.
#[derive(Default)]
pub(super) struct Gfp(OnceCell<Vec<Variant>>);

impl Gfp {
    /// Of `___GFP_IO_BIT`, `IO`.
    fn variants(&self) -> &[Variant] {
        self.0.get_or_init(|| {
            let bits = KernelBtf::load().map(|btf| btf.enum_with("___GFP_DMA_BIT"));
            let bits = bits.unwrap_or_default().into_iter();
            let flags = bits.filter_map(|bit| {
                let name = bit.name.strip_prefix("___GFP_")?.strip_suffix("_BIT")?;
                let value = 1i128.checked_shl(bit.value.try_into().ok()?)?;
                let name = name.to_owned();
                (name != "LAST").then_some(Variant { name, value })
            });
            flags.collect()
        })
    }
}

impl Decode for Gfp {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        flags(self.variants(), number as i128).map(Cow::Owned)
    }

    fn notation(&self, number: u128) -> Option<String> {
        Some(format!("{number:#x}"))
    }

    fn names(&self) -> Vec<String> {
        self.variants().iter().map(|it| it.name.clone()).collect()
    }

    fn number(&self, text: &str) -> Option<i128> {
        bits(text, |name| {
            let name = name.strip_prefix("__GFP_").unwrap_or(name);
            let flag = self.variants().iter().find(|it| it.name == name);
            flag.map(|flag| flag.value)
        })
    }
}

/// As [`flags`] shows them.
fn bits(text: &str, value: impl Fn(&str) -> Option<i128>) -> Option<i128> {
    text.split('|').try_fold(0, |bits, name| {
        let bit = parse_number(name).or_else(|| value(name))?;
        Some(bits | bit)
    })
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

    #[test]
    fn flags_of_allocations_are_those_of_the_running_kernel() {
        let gfp = Gfp::default();
        let shown = |number| gfp.name(number).map(Cow::into_owned);
        if gfp.variants().is_empty() {
            assert_eq!((shown(0x40), gfp.number("IO")), (None, None));
            return;
        }
        // These two have had their bits since Linux 4.4.
        assert_eq!(shown(0xc0).as_deref(), Some("IO|FS"));
        for text in ["IO|FS", "FS|__GFP_IO", "IO|0x80"] {
            assert_eq!(gfp.number(text), Some(0xc0), "{text}");
        }
        assert_eq!((shown(0), gfp.number("LAST")), (None, None));
    }

    /// `enum bpf_map_type` is in every kernel that has BTF.
    #[test]
    fn names_of_the_running_kernel() {
        if KernelBtf::load().is_err() {
            return;
        }
        let (of, name) = ("bpf_map_type", "ARRAY");
        let (types, bits) = (Enum::new(of, false), Enum::new(of, true));
        let (place, two) = (Place::whole(Type::unsigned(4)), 2u32.to_ne_bytes());
        let shown = |raw| types.show(&place, &two, raw).map(|it| it.to_string());
        assert_eq!(shown(false).as_deref(), Some(name));
        assert_eq!(shown(true), None);
        assert_eq!(types.number(name), Some(2));
        assert_eq!(types.number("BPF_MAP_TYPE_ARRAY"), Some(2));
        assert_eq!(bits.number(&format!("{name}|0x10")), Some(0x12));
        assert_eq!(Enum::new("no_such_enum_here", false).number(name), None);
    }
}
