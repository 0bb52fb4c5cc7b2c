//! A decoded value: what it amounts to, and how it is written.

use std::borrow::Cow;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::histogram::Histogram;

/// A decoded value. It serializes to JSON (exact integers, text as strings,
/// structs as objects) and displays as one line of text. Names are those of
/// its type, and text that is UTF-8 is the bytes themselves: decoding a number
/// or a text takes no memory.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Unknown, or not there.
    Null,
    /// True or false.
    Bool(bool),
    /// An unsigned integer.
    Uint(u128),
    /// A signed integer.
    Int(i128),
    /// A float or double. JSON has no number for those that are not finite:
    /// there they are text.
    Float(f64),
    /// Text, or a name that stands for a number.
    Text(Cow<'a, str>),
    /// Bytes without a type: shown as hex.
    Bytes(Cow<'a, [u8]>),
    /// The elements of an array.
    List(Vec<Value<'a>>),
    /// The named members of a struct or union, in the order of declaration.
    Fields(Vec<(&'a str, Value<'a>)>),
    /// A `struct tally_histogram`.
    Histogram(Box<Histogram>),
}

impl<'a> Value<'a> {
    /// A number without a fraction.
    pub(crate) fn integer(&self) -> Option<i128> {
        match self {
            Self::Uint(number) => i128::try_from(*number).ok(),
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// What several CPUs' copies of one value amount to: numbers and histograms
    /// add up; what cannot be added is shown once if it is the same everywhere,
    /// and otherwise a copy each.
    pub fn sum(copies: Vec<Value<'a>>) -> Value<'a> {
        let mut copies_left = copies.iter();
        let Some(first) = copies_left.next().cloned() else {
            return Value::List(Vec::new());
        };
        match copies_left.try_fold(first, Value::plus) {
            Some(sum) => sum,
            None => Value::List(copies),
        }
    }

    /// Puts a value in the place of a part of this one: `outer.inner`.
    pub(super) fn set(&mut self, path: &str, part: Value<'a>) {
        let (step, rest) = path.split_once('.').unwrap_or((path, ""));
        let at = match self {
            Self::Fields(fields) => fields.iter_mut().find(|(name, _)| *name == step),
            _ => None,
        };
        match at {
            Some((_, at)) if rest.is_empty() => *at = part,
            Some((_, at)) => at.set(rest, part),
            None => {}
        }
    }

    fn plus(self, more: &Value<'a>) -> Option<Value<'a>> {
        Some(match (self, more) {
            // Of up to 64 bits they wrap as the kernel's own do: one CPU may have
            // taken away what another added.
            (Value::Uint(a), Value::Uint(b)) => {
                Value::Uint(match (u64::try_from(a), (*b).try_into()) {
                    (Ok(a), Ok(b)) => a.wrapping_add(b).into(),
                    _ => a.wrapping_add(*b),
                })
            }
            (Value::Int(a), Value::Int(b)) => {
                Value::Int(match (i64::try_from(a), (*b).try_into()) {
                    (Ok(a), Ok(b)) => a.wrapping_add(b).into(),
                    _ => a.wrapping_add(*b),
                })
            }
            (Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (Value::List(a), Value::List(b)) if a.len() == b.len() => {
                let sums = a.into_iter().zip(b).map(|(a, b)| a.plus(b));
                Value::List(sums.collect::<Option<_>>()?)
            }
            (Value::Fields(a), Value::Fields(b)) if a.len() == b.len() => {
                let pairs = a.into_iter().zip(b);
                let sums = pairs.map(|((name, a), (_, b))| Some((name, a.plus(b)?)));
                Value::Fields(sums.collect::<Option<_>>()?)
            }
            (Value::Histogram(mut a), Value::Histogram(b)) => {
                a.add(b);
                Value::Histogram(a)
            }
            (a, b) if a == *b => a,
            _ => return None,
        })
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Uint(number.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Uint(number.into())
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'a, T: Into<Value<'a>>> FromIterator<T> for Value<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Uint(value) => match u64::try_from(*value) {
                Ok(small) => serializer.serialize_u64(small),
                Err(_) => serializer.serialize_u128(*value),
            },
            Self::Int(value) => match i64::try_from(*value) {
                Ok(small) => serializer.serialize_i64(small),
                Err(_) => serializer.serialize_i128(*value),
            },
            Self::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Float(_) | Self::Bytes(_) => serializer.collect_str(self),
            Self::List(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                values
                    .iter()
                    .try_for_each(|value| seq.serialize_element(value))?;
                seq.end()
            }
            Self::Fields(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::Histogram(histogram) => histogram.serialize(serializer),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("-"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => {
                f.write_str("hex:")?;
                // A formatted write for each byte takes most of the time.
                bytes.chunks(32).try_for_each(|bytes| {
                    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
                    f.write_str(&digits.collect::<String>())
                })
            }
            Self::List(values) => {
                let mut before = "[";
                for value in values {
                    write!(f, "{before}{value}")?;
                    before = ",";
                }
                f.write_str(if values.is_empty() { "[]" } else { "]" })
            }
            Self::Fields(fields) => {
                let mut before = "{";
                for (name, value) in fields {
                    write!(f, "{before}{name}={value}")?;
                    before = ",";
                }
                f.write_str(if fields.is_empty() { "{}" } else { "}" })
            }
            Self::Histogram(histogram) => f.write_str(&histogram.pairs_text()),
        }
    }
}
