//! Numbers as text: exact, in base units.

use std::time::{Duration, SystemTime};

use crate::schema::Metric;

/// A whole number of the smallest unit, and how many of its digits are a fraction of
/// the base unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    whole: i128,
    decimals: usize,
}

impl Number {
    pub(super) fn new(whole: i128, decimals: usize) -> Self {
        Self { whole, decimals }
    }

    /// That of a counter or gauge in a row, if there is one.
    pub(super) fn of_row(metric: &Metric, cells: &[u64], decimals: usize) -> Option<Self> {
        let whole = metric.integer(cells)?;
        Some(Self { whole, decimals })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        if self.whole < 0 {
            out.push(b'-');
        }
        let digits = match u64::try_from(self.whole.unsigned_abs()) {
            Ok(small) => buffer.format(small),
            Err(_) => buffer.format(self.whole.unsigned_abs()),
        };
        let digits = digits.as_bytes();
        if self.decimals == 0 {
            return out.extend_from_slice(digits);
        }
        match digits.len().checked_sub(self.decimals) {
            None | Some(0) => {
                out.extend_from_slice(b"0.");
                out.extend(std::iter::repeat_n(b'0', self.decimals - digits.len()));
                out.extend_from_slice(digits);
            }
            Some(point) => {
                out.extend_from_slice(&digits[..point]);
                out.push(b'.');
                out.extend_from_slice(&digits[point..]);
            }
        }
        let zeroes = out.iter().rev().take_while(|byte| **byte == b'0').count();
        out.truncate(out.len() - zeroes);
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Self::new(whole.into(), 0)
    }
}

impl From<bool> for Number {
    fn from(is_so: bool) -> Self {
        Self::new(is_so.into(), 0)
    }
}

/// In seconds.
impl From<Duration> for Number {
    fn from(time: Duration) -> Self {
        Self::new(time.as_nanos() as i128, 9)
    }
}

/// In seconds since 1970, to the millisecond: a start that is computed anew differs by
/// less.
impl From<SystemTime> for Number {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Self::new(since.unwrap_or_default().as_millis() as i128, 3)
    }
}

/// The canonical text of an edge: as Go's `%g` writes it, with `.0` where nothing else
/// says that it is no integer. Prometheus compares labels as text.
pub(super) fn canonical(number: f64) -> String {
    let shortest = format!("{number:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // What Go does with the shortest digits.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let text = format!("{number}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        for (whole, decimals, text) in [
            (0, 9, "0"),
            (1, 9, "0.000000001"),
            (1_560_000_000, 9, "1.56"),
            (2_000_000_000, 9, "2"),
            (123_456_789_012, 9, "123.456789012"),
            (999_999_999, 9, "0.999999999"),
            (100, 0, "100"),
            (50, 2, "0.5"),
            (100, 2, "1"),
            (i128::from(u64::MAX), 0, "18446744073709551615"),
            (i128::from(u64::MAX), 9, "18446744073.709551615"),
            (i128::from(i64::MIN), 0, "-9223372036854775808"),
            (-1_500, 3, "-1.5"),
        ] {
            let mut out = Vec::new();
            Number::new(whole, decimals).write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }

    /// What Go's `strconv.FormatFloat(f, 'g', -1, 64)` writes.
    #[test]
    fn edges_are_written_as_go_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.5, "0.5"),
            (1e-9, "1e-09"),
            (4.096e-6, "4.096e-06"),
            (0.0001, "0.0001"),
            (0.000_131_072, "0.000131072"),
            (1_099.511_627_776, "1099.511627776"),
            (131_072.0, "131072.0"),
            (1_048_576.0, "1.048576e+06"),
            (1e6, "1e+06"),
            (9_223_372_036_854_775_808.0, "9.223372036854776e+18"),
        ] {
            assert_eq!(canonical(number), text);
        }
    }
}
