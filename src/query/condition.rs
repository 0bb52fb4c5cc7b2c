//! What the program tests before it makes a row: `EXPR OP VALUE`.

use anyhow::{Context, Result, ensure};

use super::field::{Field, TEXT};
use super::write::Spot;
use crate::error::{unknown_text, usage};
use crate::schema::{LeftOut, Names, parse};

/// A condition, as the program tests it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    /// As it was written.
    pub(crate) text: String,
    pub(crate) field: Field,
    test: Test,
    is_not: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// Both ends are in it; as 64 bits, with the sign of the type.
    Range(u64, u64),
    /// Any of these bits.
    Bits(u64),
    Text(Vec<u8>),
}

const SIGNS: [&str; 7] = ["=", "!=", "<", "<=", ">", ">=", "&"];

impl Filter {
    pub(crate) fn parse(
        text: &str,
        field: &dyn Fn(&str) -> Result<Field>,
        names: &dyn Names,
    ) -> Result<Self> {
        let is_sign = |c: char| "=!<>&~".contains(c);
        // `->` is a step.
        let start = text
            .char_indices()
            .find(|(at, c)| is_sign(*c) && !(*c == '>' && text[..*at].ends_with('-')));
        let Some((start, _)) = start else {
            return Err(usage(format!(
                "write it as EXPR=VALUE, or with one of {}",
                SIGNS[1..].join(" ")
            )));
        };
        let (expression, rest) = text.split_at(start);
        let (sign, value) = rest.split_at(rest.find(|c| !is_sign(c)).unwrap_or(rest.len()));
        if !SIGNS.contains(&sign) {
            return Err(usage(unknown_text("operator", sign, SIGNS)));
        }
        let field = field(expression.trim())?;
        let (test, is_not) = test(&field, sign, value.trim(), names)?;
        Ok(Self {
            text: text.to_owned(),
            field,
            test,
            is_not,
        })
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> String {
        let test = match &self.test {
            Test::Range(low, high) => format!("{low}..{high}"),
            Test::Bits(bits) => format!("bits {bits}"),
            Test::Text(text) => {
                let text = String::from_utf8_lossy(text);
                format!("text {}", text.trim_end_matches('\0'))
            }
        };
        format!("{}{test}", if self.is_not { "not " } else { "" })
    }

    /// As C: what an event that does not meet it meets. `value` is a number, or a text.
    pub(super) fn as_c(&self, value: &str) -> String {
        let test = match &self.test {
            Test::Range(low, high) if low == high => format!("{value} == {low}ULL"),
            Test::Range(low, high) => {
                format!("{value} - {low}ULL <= {}ULL", high.wrapping_sub(*low))
            }
            Test::Bits(bits) => format!("{value} & {bits}ULL"),
            Test::Text(text) => {
                let end = text.iter().position(|byte| *byte == 0);
                let text = &text[..end.unwrap_or(text.len())];
                let bytes = text.iter().map(|byte| match byte {
                    b'"' | b'\\' | b'?' | 0..0x20 | 0x7f.. => format!("\\{byte:03o}"),
                    _ => char::from(*byte).to_string(),
                });
                format!("is_text({value}, \"{}\")", bytes.collect::<String>())
            }
        };
        match self.is_not {
            true => test,
            false => format!("!({test})"),
        }
    }

    pub(crate) fn write(&self, to: &mut Spot<'_>) -> Result<()> {
        to.set("is_not", self.is_not.into())?;
        match &self.test {
            Test::Range(low, high) => {
                to.set("test", 1)?;
                to.set("low", *low)?;
                to.set("high", *high)
            }
            Test::Bits(bits) => {
                to.set("test", 2)?;
                to.set("low", *bits)
            }
            Test::Text(text) => {
                to.set("test", 3)?;
                for (i, byte) in text.iter().enumerate() {
                    to.of("text", i)?.put((*byte).into());
                }
                Ok(())
            }
        }
    }
}

fn test(field: &Field, sign: &str, value: &str, names: &dyn Names) -> Result<(Test, bool)> {
    let is_not = sign.starts_with('!');
    if field.stored.is_text() {
        if !matches!(sign, "=" | "!=") {
            return Err(usage(format!(
                "`{sign}` compares numbers, and `{}` is text; write = or !=",
                field.name
            )));
        }
        return Ok((Test::Text(text_of(field, value, names)?), is_not));
    }
    if !field.stored.is_number() {
        return Err(usage(format!("`{}` has no number to compare", field.name)));
    }
    let number = |text: &str| number(field, text, names);
    let (least, most) = match field.is_signed() {
        true => (i64::MIN as u64, i64::MAX as u64),
        false => (0, u64::MAX),
    };
    let next = |number: u64, by: i64| number.wrapping_add_signed(by);
    let range = match (sign, value.split_once("..")) {
        ("&", _) => return Ok((Test::Bits(number(value)?), false)),
        ("=" | "!=", Some((low, high))) => (number(low)?, number(high)?),
        ("=" | "!=", None) => (number(value)?, number(value)?),
        (_, Some(_)) => {
            return Err(usage(format!(
                "`{sign}` takes one value, and `{value}` is a range"
            )));
        }
        // No number is below the least or above the greatest: this matches nothing.
        ("<", None) if number(value)? == least => return Ok((Test::Range(least, most), true)),
        (">", None) if number(value)? == most => return Ok((Test::Range(least, most), true)),
        ("<", None) => (least, next(number(value)?, -1)),
        ("<=", None) => (least, number(value)?),
        (">", None) => (next(number(value)?, 1), most),
        (_, None) => (number(value)?, most),
    };
    let (low, high) = range;
    let is_order = match field.is_signed() {
        true => low as i64 <= high as i64,
        false => low <= high,
    };
    if !is_order {
        return Err(usage(format!("the range `{value}` ends before it begins")));
    }
    Ok((Test::Range(low, high), is_not))
}

/// As 64 bits, with the sign of its type.
fn number(field: &Field, text: &str, names: &dyn Names) -> Result<u64> {
    let place = field.place();
    let mut bytes = vec![0; field.stored.size()];
    let text = text.trim();
    parse(
        &place,
        &field.tags(),
        text,
        LeftOut::Refused,
        names,
        &mut bytes,
    )
    .map_err(|error| {
        usage(format!(
            "`{text}` is not a value of `{}`: {error:#}",
            field.name
        ))
    })?;
    let fill = match (field.is_signed(), bytes.last()) {
        (true, Some(0x80..)) => 0xff,
        _ => 0,
    };
    bytes.resize(8, fill);
    let bytes = bytes.first_chunk().context("a number has 8 bytes")?;
    Ok(u64::from_le_bytes(*bytes))
}

fn text_of(field: &Field, text: &str, names: &dyn Names) -> Result<Vec<u8>> {
    let size = field.stored.size();
    ensure!(
        text.len() < size.min(TEXT),
        usage(format!(
            "`{text}` has {} bytes, and `{}` at most {}",
            text.len(),
            field.name,
            size - 1
        ))
    );
    let mut bytes = vec![0; size];
    parse(
        &field.place(),
        &field.tags(),
        text,
        LeftOut::Refused,
        names,
        &mut bytes,
    )
    .map_err(|error| usage(format!("{error:#}")))?;
    Ok(bytes)
}
