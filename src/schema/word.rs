//! One word to a number, or to the bytes of a text or a float; and what a type takes.

use anyhow::{Result, anyhow, bail, ensure};

use super::types::{Kind, Member, Type};
use super::unit::Unit;

/// Decimal or `0x` hex, with an optional `-`.
pub fn parse_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    // `parse` would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    // Of 128 bits, the upper half is negative here, and in range of `__u128`.
    let number = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u128::from_str_radix(hex, 16).ok()?,
        Some(_) => return None,
        None => digits.parse().ok()?,
    };
    if negative && number > 1 << 127 {
        return None;
    }
    let number = number as i128;
    Some(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

pub(super) fn in_range(ty: &Type, bits: usize, number: i128) -> Result<()> {
    let signed = match &ty.kind {
        Kind::Int { signed } | Kind::Enum { signed, .. } => *signed,
        Kind::Bool => {
            ensure!(matches!(number, 0 | 1), "{}", wanted(ty));
            return Ok(());
        }
        Kind::Char | Kind::Pointer => false,
        Kind::Opaque if matches!(ty.size, 1 | 2 | 4 | 8) => false,
        _ => bail!("{}", wanted(ty)),
    };
    let (least, most) = match (signed, bits) {
        (_, 0) => bail!("there are no bits to write"),
        // Any number that was parsed; the sign is but a bit.
        (_, 128..) => return Ok(()),
        (true, _) => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        (false, _) => (0, i128::MAX >> (127 - bits)),
    };
    ensure!(
        (least..=most).contains(&number),
        "{number} is out of range: {least} to {most}"
    );
    Ok(())
}

pub(super) fn parse_float(size: usize, text: &str) -> Result<Vec<u8>> {
    let number: f64 = text
        .parse()
        .map_err(|_| anyhow!("write a number like `1.5`"))?;
    match size {
        4 => Ok((number as f32).to_ne_bytes().to_vec()),
        8 => Ok(number.to_ne_bytes().to_vec()),
        _ => bail!("write `hex:` and {size} bytes"),
    }
}

/// Text of at most `size` bytes, with NULs behind it.
pub(super) fn parse_text(size: usize, text: &str) -> Result<Vec<u8>> {
    let mut bytes = unescaped(text);
    let len = bytes.len();
    ensure!(len <= size, "{len} bytes are too long: at most {size}");
    ensure!(!bytes.contains(&0), "a NUL byte would end the text early");
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Text as it is shown: `\xff` is a byte, `\u{1b}`, `\n`, `\r` and `\t` are
/// characters. Any other backslash is itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (escaped, after) = escape(&rest[at + 1..]).unwrap_or((vec![b'\\'], &rest[at + 1..]));
        bytes.extend(escaped);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What stands behind a backslash, and the text after it.
fn escape(text: &str) -> Option<(Vec<u8>, &str)> {
    let number = |hex: &str| {
        let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then(|| u32::from_str_radix(hex, 16).ok()).flatten()
    };
    let (kind, after) = text.split_at_checked(1)?;
    match kind {
        "n" => Some((vec![b'\n'], after)),
        "r" => Some((vec![b'\r'], after)),
        "t" => Some((vec![b'\t'], after)),
        "x" => {
            let (hex, after) = after.split_at_checked(2)?;
            Some((vec![number(hex)? as u8], after))
        }
        "u" => {
            let (hex, after) = after.strip_prefix('{')?.split_once('}')?;
            let c = char::from_u32(number(hex)?)?;
            Some((c.to_string().into_bytes(), after))
        }
        _ => None,
    }
}

pub(super) fn with_unit(unit: &Unit, text: &str) -> Result<i128> {
    match text.strip_prefix('-') {
        Some(positive) => Ok(-i128::from(unit.parse(positive)?)),
        None => Ok(unit.parse(text)?.into()),
    }
}

/// What text a type takes.
pub(super) fn wanted(ty: &Type) -> String {
    match &ty.kind {
        Kind::Bool => "write `true` or `false`".to_owned(),
        Kind::Float => "write a number like `1.5`".to_owned(),
        Kind::Enum { variants, .. } => {
            let names: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
            format!("write a number or one of {}", names.join(", "))
        }
        Kind::Struct(members) | Kind::Union(members) => {
            let mut names = Vec::new();
            field_names(members, &mut names);
            let names: Vec<String> = names.iter().map(|name| format!("{name}=...")).collect();
            format!(
                "write `{}`, JSON, or `hex:` and {} bytes",
                names.join(","),
                ty.size
            )
        }
        Kind::Array { .. } if ty.is_text() => "write a text".to_owned(),
        Kind::Array { len, .. } => format!("write a list of {len} elements, like `[1,2]`"),
        Kind::Opaque => format!("write `hex:` and {} bytes", ty.size),
        Kind::Int { .. } | Kind::Char | Kind::Pointer => "write a whole number".to_owned(),
    }
}

/// Those of anonymous members are their parent's.
pub(super) fn field_names<'a>(members: &'a [Member], names: &mut Vec<&'a str>) {
    for member in members {
        match member.name.as_str() {
            "" => field_names(member.place.ty.members(), names),
            name => names.push(name),
        }
    }
}
