//! Text to bytes, by type: what `decode` does, the other way round.

use anyhow::{Result, anyhow, bail};

use super::tags::Decoder;
use super::types::{Kind, Type};
use super::unit::Unit;

/// The bytes of a number, bool, enum or text. Numbers are decimal or `0x` hex
/// and must fit; a unit allows `10ms`; enums take a name or a number. An error
/// says what would have been right.
pub fn parse_scalar(
    ty: &Type,
    unit: Option<&Unit>,
    decoder: Option<&Decoder>,
    text: &str,
) -> Result<Vec<u8>> {
    match &ty.kind {
        Kind::Bool => match text {
            "true" | "1" => Ok(vec![1]),
            "false" | "0" => Ok(vec![0]),
            _ => bail!("write `true` or `false`"),
        },
        Kind::Array { .. } if ty.is_text() => parse_text(ty.size, text),
        Kind::Int { signed } => {
            let number = match (decoder, unit) {
                (Some(Decoder::Cgroup), _) => super::labels::cgroup_id(text)?.into(),
                (Some(Decoder::Uid), _) => super::labels::user_id(text)?.into(),
                (_, Some(unit)) if !text.starts_with('-') => unit.parse(text)?.into(),
                _ => parse_number(text).ok_or_else(|| anyhow!("write a whole number"))?,
            };
            if number < 0 && ty.name == "pid_t" {
                bail!("a process id is not negative");
            }
            integer(ty.size, *signed, number)
        }
        Kind::Char => {
            let number = parse_number(text).ok_or_else(|| anyhow!("write a whole number"))?;
            integer(ty.size, false, number)
        }
        Kind::Enum { signed, variants } => {
            let variant = variants.iter().find(|variant| variant.name == text);
            let number = match variant {
                Some(variant) => variant.value,
                None => parse_number(text).ok_or_else(|| {
                    let names: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
                    anyhow!("write a number or one of {}", names.join(", "))
                })?,
            };
            integer(ty.size, *signed, number)
        }
        _ => bail!("values of type `{}` cannot be written as text", ty.name),
    }
}

/// Decimal or `0x` hex, with an optional `-`.
fn parse_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    // `parse` would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => i128::from_str_radix(hex, 16).ok()?,
        Some(_) => return None,
        None => digits.parse().ok()?,
    };
    Some(if negative { -number } else { number })
}

/// The bytes of a number of 1 to 8 bytes, if it fits.
fn integer(size: usize, signed: bool, number: i128) -> Result<Vec<u8>> {
    if !(1..=8).contains(&size) {
        bail!("integers of {size} bytes cannot be written as text");
    }
    let bits = size as u32 * 8;
    let (least, most) = match signed {
        true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        false => (0, (1i128 << bits) - 1),
    };
    if number < least || number > most {
        bail!("{number} is out of range: {least} to {most}");
    }
    Ok(number.to_le_bytes()[..size].to_vec())
}

/// Text of at most `size - 1` bytes, with NULs behind it.
fn parse_text(size: usize, text: &str) -> Result<Vec<u8>> {
    let most = size.saturating_sub(1);
    if text.len() > most {
        bail!("{} bytes are too long: at most {most}", text.len());
    }
    if text.contains('\0') {
        bail!("a NUL byte would end the text early");
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size, 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schema::Variant;

    fn ty(size: usize, kind: Kind) -> Type {
        Type {
            name: "t".into(),
            size,
            kind,
        }
    }

    fn parse(ty: &Type, text: &str) -> Result<Vec<u8>, String> {
        parse_scalar(ty, None, None, text).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_are_checked_against_their_range() {
        let u8s = ty(1, Kind::Int { signed: false });
        let s16 = ty(2, Kind::Int { signed: true });
        let u64s = ty(8, Kind::Int { signed: false });
        assert_eq!(parse(&u8s, "255"), Ok(vec![255]));
        assert_eq!(parse(&u8s, "0x2a"), Ok(vec![42]));
        assert_eq!(
            parse(&u8s, "256"),
            Err("256 is out of range: 0 to 255".into())
        );
        assert_eq!(
            parse(&u8s, "-1"),
            Err("-1 is out of range: 0 to 255".into())
        );
        assert_eq!(parse(&s16, "-32768"), Ok(vec![0, 0x80]));
        assert_eq!(
            parse(&s16, "32768"),
            Err("32768 is out of range: -32768 to 32767".into())
        );
        assert_eq!(parse(&u64s, "18446744073709551615"), Ok(vec![0xff; 8]));
        for bad in [
            "",
            "x",
            "1.5",
            "--1",
            "+1",
            "0x",
            "0x+1",
            "-",
            "1 ",
            "99999999999999999999999999999999999999999",
        ] {
            assert!(parse(&u64s, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bools_enums_and_text() {
        assert_eq!(parse(&ty(1, Kind::Bool), "true"), Ok(vec![1]));
        assert!(parse(&ty(1, Kind::Bool), "yes").is_err());
        let variants = vec![Variant {
            name: "ON".into(),
            value: 3,
        }];
        let state = ty(
            4,
            Kind::Enum {
                signed: false,
                variants,
            },
        );
        assert_eq!(parse(&state, "ON"), Ok(vec![3, 0, 0, 0]));
        assert_eq!(parse(&state, "7"), Ok(vec![7, 0, 0, 0]));
        assert_eq!(
            parse(&state, "OFF"),
            Err("write a number or one of ON".into())
        );
        let element = Arc::new(ty(1, Kind::Char));
        let comm = ty(4, Kind::Array { element, len: 4 });
        assert_eq!(parse(&comm, "sh"), Ok(b"sh\0\0".to_vec()));
        assert_eq!(
            parse(&comm, "bash"),
            Err("4 bytes are too long: at most 3".into())
        );
        assert!(parse(&comm, "a\0b").is_err());
    }
}
