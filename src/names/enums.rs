//! `enum:NAME` and `flags:NAME`: numbers by the names of an enum of the running
//! kernel, which differ from kernel to kernel. What all of an enum's names begin
//! with, its own name, is left out: of `skb_drop_reason`, `NO_SOCKET`.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::schema::{KernelBtf, Variant};

/// The enums that were asked for, each read once.
#[derive(Default)]
pub(super) struct Enums(RefCell<HashMap<String, Vec<Variant>>>);

impl Enums {
    /// The name of a number.
    pub(super) fn name(&self, of: &str, number: i128) -> Option<String> {
        self.with(of, |variants| {
            let variant = variants.iter().find(|variant| variant.value == number);
            variant.map(|variant| variant.name.clone())
        })
    }

    /// The other way round; the kernel's own name in full is known, too.
    pub(super) fn number(&self, of: &str, name: &str) -> Option<i128> {
        self.with(of, |variants| {
            let name = short(of, name);
            let variant = variants.iter().find(|variant| variant.name == name);
            variant.map(|variant| variant.value)
        })
    }

    /// All of its names.
    pub(super) fn names(&self, of: &str) -> Vec<String> {
        self.with(of, |variants| {
            let variants = variants.iter();
            variants.map(|variant| variant.name.clone()).collect()
        })
    }

    /// The names of the bits that are set, with `|` between them; bits without
    /// a name as one number behind them.
    pub(super) fn flags(&self, of: &str, number: i128) -> Option<String> {
        self.with(of, |variants| flags(variants, number))
    }

    /// The other way round.
    pub(super) fn flag_bits(&self, of: &str, names: &str) -> Option<i128> {
        names.split('|').try_fold(0, |bits, name| {
            let bit = match crate::schema::parse_number(name) {
                Some(number) => number,
                None => self.number(of, name)?,
            };
            Some(bits | bit)
        })
    }

    fn with<T>(&self, name: &str, ask: impl FnOnce(&[Variant]) -> T) -> T {
        let mut enums = self.0.borrow_mut();
        ask(enums.entry(name.to_owned()).or_insert_with(|| {
            let variants = KernelBtf::load().map(|btf| btf.enum_variants(name));
            let mut variants = variants.unwrap_or_default();
            for variant in &mut variants {
                variant.name = short(name, &variant.name).to_owned();
            }
            variants
        }))
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
        let enums = Enums::default();
        if KernelBtf::load().is_err() {
            return;
        }
        let (of, name) = ("bpf_map_type", "ARRAY");
        assert_eq!(enums.name(of, 2).as_deref(), Some(name));
        assert_eq!(enums.number(of, name), Some(2));
        assert_eq!(enums.number(of, "BPF_MAP_TYPE_ARRAY"), Some(2));
        assert_eq!(enums.flag_bits(of, &format!("{name}|0x10")), Some(0x12));
        assert_eq!(enums.number("no_such_enum_here", name), None);
    }
}
