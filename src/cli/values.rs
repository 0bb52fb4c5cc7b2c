//! Values of arguments: numbers, times, columns.

use std::convert::Infallible;
use std::time::Duration;

use crate::error::unknown_text;
use crate::names;
use crate::schema::{Decoder, dotted};
use crate::snapshot::Sort;

/// A whole number, and words that say so where it is none.
pub(super) fn whole<N: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| match most {
                u64::MAX => format!("write a whole number, {least} or more"),
                _ => format!("write a whole number from {least} to {most}"),
            })
    }
}

/// `all` is without a limit.
pub(super) fn top(text: &str) -> Result<usize, String> {
    if text == "all" {
        return Ok(usize::MAX);
    }
    let rows = text.parse();
    rows.map_err(|_| "write a whole number, 0 or more, or `all`".to_owned())
}

/// A bare number is one of seconds, as `sleep` and `timeout` have it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let is_bare = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let unit = if is_bare { "s" } else { "" };
    humantime::parse_duration(&format!("{text}{unit}"))
        .map_err(|_| "write a time like `500ms`, `2m`, or a number of seconds: `0.5`".to_owned())
}

/// No clock of ours is finer.
const SHORTEST: Duration = Duration::from_millis(1);

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < SHORTEST => Err("an interval is at least 1ms".to_owned()),
        interval => Ok(interval),
    }
}

/// `a[2]` is the column `a.2`.
pub(super) fn column(text: &str) -> Result<String, Infallible> {
    Ok(dotted(text))
}

/// `FIELD=DECODER`: how a field is shown.
pub(super) fn decoder(text: &str) -> Result<(String, Decoder), String> {
    let (field, tag) = text
        .split_once('=')
        .ok_or("write FIELD=DECODER, as `ip=ksym`")?;
    let decoder = Decoder::from_tag(tag);
    if field.is_empty() || !(decoder == Decoder::LOG2 || names::is_known(&decoder)) {
        let known = names::decoders().chain(["log2"]);
        return Err(unknown_text("decoder", tag, known));
    }
    Ok((dotted(field), decoder))
}

/// `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A dash in front turns the order around.
pub(super) fn sort(text: &str) -> Result<Sort, Infallible> {
    Ok(Sort::parse(&dotted(text)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bare_number_is_one_of_seconds() {
        for (text, millis) in [
            ("0", 0),
            ("2", 2000),
            ("0.5", 500),
            ("1.5s", 1500),
            ("7ms", 7),
        ] {
            let duration = super::duration(text).unwrap();
            assert_eq!(duration.as_millis(), millis, "{text}");
        }
        for text in ["", ".", "-1", "0.5.5", "1e3", "inf"] {
            super::duration(text).unwrap_err();
        }
    }
}
