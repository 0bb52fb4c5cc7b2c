//! Units: how numbers are scaled for people, and read from them.

use anyhow::{Result, anyhow, bail, ensure};

use crate::text::thousands;

/// What `UNIT(...)` says a number counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A time, as a number of so many nanoseconds each.
    Time(u64),
    /// Bytes.
    Bytes,
    /// Anything else, by its name: shown behind the number.
    Other(String),
}

const NS: u64 = 1;
const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

const BINARY: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
];

impl Unit {
    /// From the tag's text.
    pub fn from_tag(text: &str) -> Self {
        match text {
            "ns" => Self::Time(NS),
            "us" => Self::Time(US),
            "ms" => Self::Time(MS),
            "s" => Self::Time(S),
            "bytes" => Self::Bytes,
            other => Self::Other(other.to_owned()),
        }
    }

    /// As the tag wrote it.
    pub fn name(&self) -> &str {
        match self {
            Self::Time(NS) => "ns",
            Self::Time(US) => "us",
            Self::Time(MS) => "ms",
            Self::Time(_) => "s",
            Self::Bytes => "bytes",
            Self::Other(name) => name,
        }
    }

    /// For people: three digits that count, `1.56 s`, `312 ms`, `4.00 KiB`.
    pub fn scale(&self, number: f64) -> String {
        match self {
            _ if number < 0.0 => format!("-{}", self.scale(-number)),
            Self::Time(each) => scale_time(number * *each as f64),
            Self::Bytes => scale_bytes(number),
            Self::Other(name) => format!("{} {name}", plain(number)),
        }
    }

    /// As it could be typed, to the last digit: `10ms`, `1500us`, `4KiB`.
    pub fn exact(&self, number: i128) -> String {
        let scales: &[(&str, u64)] = match self {
            Self::Time(_) => &[("ns", NS), ("us", US), ("ms", MS), ("s", S)],
            Self::Bytes => &BINARY,
            Self::Other(_) => &[],
        };
        let each = match self {
            Self::Time(each) => i128::from(*each),
            _ => 1,
        };
        // What 64 bits do not hold cannot be typed with a unit.
        let fits = |all: &i128| all.unsigned_abs() <= u64::MAX.into();
        let Some(all) = number.checked_mul(each).filter(fits) else {
            return number.to_string();
        };
        let divides = |size: u64| all % i128::from(size) == 0;
        match scales.iter().rev().find(|(_, size)| divides(*size)) {
            Some((name, size)) if number != 0 => format!("{}{name}", all / i128::from(*size)),
            _ => number.to_string(),
        }
    }

    /// From people: `10ms`, `1.5s`, `4KiB`, or a bare number of the unit itself.
    /// An error says what would have been right.
    pub fn parse(&self, text: &str) -> Result<u64> {
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        match self {
            Self::Time(each) => {
                let Ok(time) = humantime::parse_duration(text) else {
                    bail!("`{text}` is not a time; write one like `10ms` or `1.5s`");
                };
                let (ns, each, name) = (time.as_nanos(), u128::from(*each), self.name());
                let is_whole = ns.is_multiple_of(each);
                ensure!(is_whole, "`{text}` is not a whole number of {name}");
                let number = u64::try_from(ns / each);
                number.map_err(|_| anyhow!("`{text}` is more than 64 bits hold"))
            }
            Self::Bytes => parse_bytes(text),
            Self::Other(name) => bail!("`{text}` is not a whole number of {name}"),
        }
    }
}

/// A number for people, without a unit: `12,304`, `4.6`, `0`.
pub(crate) fn plain(number: f64) -> String {
    if number == 0.0 {
        "0".to_owned()
    } else if number.abs() < 0.05 {
        "<0.1".to_owned()
    } else if number.abs() < 10.0 && number.fract() != 0.0 {
        format!("{number:.1}")
    } else {
        thousands(&format!("{number:.0}"))
    }
}

/// A whole number for people, to the last digit: `12,304`.
pub(crate) fn whole(number: i128) -> String {
    thousands(&number.to_string())
}

/// Three significant digits, zeroes too, so that the points of a column line up.
fn three_digits(number: f64) -> String {
    let decimals = if number >= 99.95 {
        0
    } else if number >= 9.995 {
        1
    } else {
        2
    };
    format!("{number:.decimals$}")
}

fn scale_time(ns: f64) -> String {
    if ns < 0.5 {
        return "0".to_owned();
    }
    // A minute is where seconds stop being readable.
    if ns >= 120.0 * S as f64 {
        let seconds = (ns / S as f64).round() as u64;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        return match hours {
            0 => format!("{minutes} min {} s", seconds % 60),
            1..48 => format!("{hours} h {minutes} min"),
            _ => format!("{} d {} h", whole((hours / 24).into()), hours % 24),
        };
    }
    for (name, size) in [("s", S), ("ms", MS), ("µs", US)] {
        // 999.5 µs rounds to 1 ms.
        if ns >= 0.9995 * size as f64 {
            return format!("{} {name}", three_digits(ns / size as f64));
        }
    }
    format!("{ns:.0} ns")
}

fn scale_bytes(bytes: f64) -> String {
    for (name, size) in BINARY.iter().rev() {
        if bytes >= *size as f64 {
            return format!("{} {name}", three_digits(bytes / *size as f64));
        }
    }
    format!("{} B", plain(bytes))
}

fn parse_bytes(text: &str) -> Result<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let unit = unit.trim();
    let size = BINARY.iter().find(|(name, _)| {
        // `4K`, `4k`, `4KiB`; never 1000s.
        name.eq_ignore_ascii_case(unit) || name[..1].eq_ignore_ascii_case(unit)
    });
    match (number.parse::<u64>(), size) {
        (Ok(number), Some((_, size))) => number
            .checked_mul(*size)
            .ok_or_else(|| anyhow!("`{text}` is more than 64 bits hold")),
        _ => bail!("`{text}` is not a size; write one like `512`, `4KiB` or `1MiB`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scaled_for_people() {
        let ns = Unit::from_tag("ns");
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1 ns"),
            (999.0, "999 ns"),
            (1000.0, "1.00 µs"),
            (8192.0, "8.19 µs"),
            (4096.0, "4.10 µs"),
            (16_384.0, "16.4 µs"),
            (20_000.0, "20.0 µs"),
            (999_999.0, "1.00 ms"),
            (312e6, "312 ms"),
            (1.56e9, "1.56 s"),
            (119e9, "119 s"),
            (150e9, "2 min 30 s"),
            (7300e9, "2 h 1 min"),
            (172_800e9, "2 d 0 h"),
        ] {
            assert_eq!(ns.scale(number), text);
        }
        assert_eq!(Unit::from_tag("ms").scale(1500.0), "1.50 s");
    }

    #[test]
    fn sizes_are_scaled_for_people() {
        let scaled = [0.0, 512.0, 1024.0, 1536.0, 5e9, 1e19].map(|n| Unit::Bytes.scale(n));
        let sizes = [
            "0 B", "512 B", "1.00 KiB", "1.50 KiB", "4.66 GiB", "8.67 EiB",
        ];
        assert_eq!(scaled, sizes);
    }

    #[test]
    fn plain_numbers() {
        let scaled = [0.0, 0.01, 0.25, 4.6, 7.0, 10.4, 12304.0, 1234567.0].map(plain);
        assert_eq!(
            scaled,
            ["0", "<0.1", "0.2", "4.6", "7", "10", "12,304", "1,234,567"]
        );
    }

    #[test]
    fn whole_numbers_keep_their_digits_and_their_sign() {
        assert_eq!(whole(u64::MAX.into()), "18,446,744,073,709,551,615");
        assert_eq!(whole(-123_456), "-123,456");
        assert_eq!(plain(-123_456.0), "-123,456");
        assert_eq!(Unit::Time(NS).scale(-1_500.0), "-1.50 µs");
        assert_eq!(Unit::Bytes.scale(-4096.0), "-4.00 KiB");
    }

    #[test]
    fn units_are_parsed() {
        for (unit, text, number) in [
            ("ns", "10ms", 10_000_000),
            ("ns", "42", 42),
            ("ms", "2s", 2000),
            ("ns", "1.5s", 1_500_000_000),
            ("us", "0.25ms", 250),
            ("bytes", "4KiB", 4096),
            ("bytes", "4k", 4096),
            ("bytes", "7B", 7),
        ] {
            assert_eq!(Unit::from_tag(unit).parse(text).unwrap(), number, "{text}");
        }
        for (unit, text) in [
            ("ns", "soon"),
            ("ns", ""),
            ("ns", "-1ms"),
            ("bytes", "4 parsecs"),
            ("bytes", ""),
            ("bytes", "99999999999TiB"),
            ("hz", "x"),
            // Neither is cut to what would fit.
            ("us", "1999ns"),
            ("us", "1ns"),
            ("ns", "0.5ns"),
            ("ns", "99999999y"),
            ("ns", ".5s"),
            ("ns", "1.5"),
            ("ns", "1.5.5s"),
        ] {
            assert!(Unit::from_tag(unit).parse(text).is_err(), "{unit} {text}");
        }
    }

    #[test]
    fn what_is_shown_exactly_can_be_typed() {
        for (unit, number, text) in [
            ("ns", 0, "0"),
            ("ns", 10_000_000, "10ms"),
            ("ns", 1_500_000, "1500us"),
            ("ms", 2000, "2s"),
            ("s", 90, "90s"),
            ("bytes", 4096, "4KiB"),
            ("bytes", 4097, "4097B"),
            ("hz", 49, "49"),
        ] {
            let unit = Unit::from_tag(unit);
            assert_eq!(unit.exact(number), text);
            assert_eq!(i128::from(unit.parse(text).unwrap()), number, "{text}");
        }
        assert_eq!(Unit::from_tag("ms").exact(-5), "-5ms");
    }
}
