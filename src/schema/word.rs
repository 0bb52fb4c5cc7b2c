//! One word to a number, or to the bytes of a text or a float; and what a type takes.

use anyhow::{Result, anyhow, bail, ensure};

use super::decode::Names;
use super::tags::Tags;
use super::types::{Kind, Member, Place, Type};
use super::unit::Unit;
use crate::error::unknown;

/// One word: a text, or a number in whatever struct or array has its bytes.
pub(super) fn write_word(
    place: &Place,
    tags: &Tags,
    text: &str,
    names: &dyn Names,
    bytes: &mut [u8],
) -> Result<()> {
    let ty = &*place.ty;
    match &ty.kind {
        Kind::Array { .. } | Kind::Struct(_) | Kind::Union(_) => {
            let decoder = tags.decoder.as_ref().filter(|_| ty.size == 16);
            let address = decoder.map(|decoder| names.number(decoder, text));
            match address.transpose()?.flatten() {
                Some(address) => place.put(bytes, address as u128),
                None if ty.is_text() => {
                    place.put_bytes(bytes, &parse_text(ty.size, text)?);
                }
                None => bail!("{}", wanted(ty)),
            }
        }
        Kind::Float => place.put_bytes(bytes, &parse_float(ty.size, text)?),
        _ if tags.minimum.is_some() && text == "null" => place.put(bytes, 0),
        _ if tags.minimum.is_some() => place.put(bytes, !number(place, tags, text, names)? as u128),
        _ => place.put(bytes, number(place, tags, text, names)? as u128),
    }
    Ok(())
}

/// A number that fits its place, in two's complement.
fn number(place: &Place, tags: &Tags, text: &str, names: &dyn Names) -> Result<i128> {
    let ty = &*place.ty;
    let named = match (&tags.decoder, &ty.kind) {
        (Some(decoder), _) => names.number(decoder, text)?,
        (None, Kind::Enum { variants, .. }) => {
            let variant = variants.iter().find(|variant| variant.name == text);
            if variant.is_none() && parse_number(text).is_none() {
                let known = variants.iter().map(|variant| variant.name.as_str());
                let what = if ty.name.is_empty() { "name" } else { &ty.name };
                return Err(unknown(what, text, known));
            }
            variant.map(|variant| variant.value)
        }
        (None, Kind::Bool) => text.parse::<bool>().ok().map(i128::from),
        _ => None,
    };
    let number = match (named, &tags.unit) {
        (Some(number), _) => number,
        (None, Some(unit)) => with_unit(unit, text)?,
        (None, _) => parse_number(text).ok_or_else(|| anyhow!("{}", wanted(ty)))?,
    };
    if number < 0 && ty.name == "pid_t" {
        bail!("a process id is not negative");
    }
    in_range(ty, place.width(), number)?;
    Ok(number)
}

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

fn in_range(ty: &Type, bits: usize, number: i128) -> Result<()> {
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

fn parse_float(size: usize, text: &str) -> Result<Vec<u8>> {
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
fn parse_text(size: usize, text: &str) -> Result<Vec<u8>> {
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

pub(crate) fn with_unit(unit: &Unit, text: &str) -> Result<i128> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Variant;
    use crate::schema::testing::*;

    #[test]
    fn integers_are_checked_against_their_range() {
        let [u8s, u64s, u128s] = [1, 8, 16].map(|size| int(size, false));
        let s16 = int(2, true);
        check_read([
            (&u8s, "255", &[255]),
            (&u8s, "0x2a", &[42]),
            (&s16, "-32768", &[0, 0x80]),
            (&u64s, "18446744073709551615", &[0xff; 8]),
            (&u64s, "hex:01 00000000000002", &[1, 0, 0, 0, 0, 0, 0, 2]),
            (&u128s, &u128::MAX.to_string(), &[0xff; 16]),
        ]);
        check_refused([
            (&u8s, "256", "256 is out of range: 0 to 255"),
            (&u8s, "-1", "-1 is out of range: 0 to 255"),
            (&s16, "32768", "32768 is out of range: -32768 to 32767"),
        ]);
        for bad in ["", "x", "1.5", "--1", "+1", "0x", "0x+1", "-", "1 ", "[1]"] {
            assert!(read(&u64s, bad).is_err(), "{bad:?}");
        }
        for bad in [&"9".repeat(41), "hex:01"] {
            assert!(read(&u64s, bad).is_err(), "{bad:?}");
        }
        assert_eq!(read(&u128s, "0x1"), read(&u128s, "1"));
    }

    /// Whatever bytes there are, up to the first NUL.
    #[test]
    fn text_is_typed_as_it_is_shown() {
        let comm = text(6);
        let pieces: [&[u8]; 6] = [b"\\", b"x41", b"\xff", b"u{1}", "é".as_bytes(), b"n"];
        let pairs = pieces.iter().flat_map(|a| pieces.map(|b| [*a, b].concat()));
        let mut seen = std::collections::HashSet::new();
        for mut bytes in pairs.filter(|bytes| bytes.len() <= 6) {
            bytes.resize(6, 0);
            let shown = crate::schema::decode::text(&bytes).to_string();
            assert_eq!(read(&comm, &shown), Ok(bytes), "{shown}");
            assert!(seen.insert(shown.clone()), "{shown}");
        }
    }

    #[test]
    fn bools_enums_and_text() {
        let flag = Type::new("bool", 1, Kind::Bool);
        let kind = Kind::Enum {
            signed: false,
            variants: vec![Variant {
                name: "ON".into(),
                value: 3,
            }],
        };
        let state = Type::new("t", 4, kind);
        let comm = text(4);
        let named = structure(4, vec![member("comm", 0, &comm)]);
        check_read([
            (&flag, "true", &[1]),
            (&state, "ON", &[3, 0, 0, 0]),
            (&state, "7", &[7, 0, 0, 0]),
            (&comm, "sh", b"sh\0\0"),
            (&comm, "bash", b"bash"),
            (&comm, r"a\u{1b}b", b"a\x1bb\0"),
            (&comm, r"\n\q\", b"\n\\q\\"),
            (&comm, "\"a=\"", b"a=\0\0"),
            // In quotes within quotes, the inner ones are the text's own.
            (&comm, r#""\"a\"""#, b"\"a\"\0"),
            (&named, r#"{"comm":"\"a\""}"#, b"\"a\"\0"),
            (&named, r#"comm="\"""#, b"\"\0\0\0"),
        ]);
        check_refused([
            (&flag, "yes", "write `true` or `false`"),
            (&state, "OFF", "no t named `OFF`; known: `ON`"),
            (&comm, r"\x00", "NUL"),
            (&comm, "a\0b", "NUL"),
            (&comm, "zshrc", "5 bytes are too long: at most 4"),
        ]);
    }
}
