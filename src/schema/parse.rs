//! Text to bytes, by type: what `decode` does, the other way round.

use anyhow::{Result, anyhow, bail, ensure};

use super::decode::Names;
use super::histogram::{Histogram, Scale};
use super::input::{Fields, Input};
use super::tags::Tags;
use super::types::{Kind, Member, Place};
use super::word::{field_names, wanted, write_word};
use crate::error::{unknown, usage};

/// What to do about a field that the text does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// Refuse the text.
    Refused,
    /// Leave its bytes as they are.
    Kept,
}

/// Writes text into the bytes of a value: numbers (decimal, `0x` hex, with a
/// unit where there is one), names (of enums, and those that `names` shows),
/// text, `field=value,outer.inner=value`, JSON, or `hex:` and all bytes.
///
/// Numbers must fit. An error names the field, and says what would have been
/// right; it is the caller's mistake, and so one of usage.
pub fn parse(
    place: &Place,
    tags: &Tags,
    text: &str,
    left_out: LeftOut,
    names: &dyn Names,
    bytes: &mut [u8],
) -> Result<()> {
    let len = bytes.len();
    ensure!(
        place.bit_offset / 8 + place.ty.size <= len,
        "the type is larger than its {len} bytes"
    );
    let mut parser = Parser {
        names,
        left_out,
        bytes,
    };
    let written = parser.write(place, tags, &Input::word(text), "");
    written.map_err(|error| usage(format!("{error:#}")))
}

struct Parser<'p> {
    names: &'p dyn Names,
    left_out: LeftOut,
    bytes: &'p mut [u8],
}

impl Parser<'_> {
    fn write(&mut self, place: &Place, tags: &Tags, input: &Input, path: &str) -> Result<()> {
        let ty = &*place.ty;
        let input = &at(path, input.for_type(ty))?;
        match (&ty.kind, input) {
            (_, Input::Bytes(given)) if place.bits.is_none() => {
                check_count(path, given.len(), "bytes, where the type has", ty.size)?;
                place.put_bytes(self.bytes, given);
                Ok(())
            }
            (_, Input::Word(text)) => {
                at(path, write_word(place, tags, text, self.names, self.bytes))
            }
            (Kind::Struct(_), Input::Fields(fields)) if Histogram::is_shown_as(ty, fields) => {
                let scale = Scale::of(ty).unwrap_or(Scale::Log2);
                let histogram = at(path, Histogram::from_fields(scale, fields))?;
                place.put_bytes(self.bytes, &histogram.to_bytes());
                Ok(())
            }
            (Kind::Struct(_) | Kind::Union(_), Input::Fields(fields)) => {
                self.write_fields(place, fields, path)
            }
            (Kind::Array { element, len }, Input::List(items)) => {
                // Elements of no bytes are not shown.
                let wanted = if element.size == 0 { items.len() } else { *len };
                check_count(path, items.len(), IN_ARRAY, wanted)?;
                items.iter().enumerate().try_for_each(|(i, item)| {
                    let path = join(path, &i.to_string());
                    self.write(&place.element(element, i), tags, item, &path)
                })
            }
            (Kind::Array { element, len }, Input::Fields(fields)) => {
                for (index, item) in fields {
                    let path = join(path, index);
                    let i = index.parse().ok().filter(|i| i < len);
                    let i = i.ok_or_else(|| anyhow!("no element `{path}`: there are {len}"))?;
                    self.write(&place.element(element, i), tags, item, &path)?;
                }
                match self.left_out {
                    LeftOut::Refused => check_count(path, fields.len(), IN_ARRAY, *len),
                    LeftOut::Kept => Ok(()),
                }
            }
            _ => bail!("{}{}", prefix(path), wanted(ty)),
        }
    }

    fn write_fields(&mut self, place: &Place, fields: &Fields, path: &str) -> Result<()> {
        let mut known = Vec::new();
        field_names(place.ty.members(), &mut known);
        for (i, (field, _)) in fields.iter().enumerate() {
            if !known.contains(&field.as_str()) {
                return Err(unknown("field", &join(path, field), known));
            }
            ensure!(
                fields[..i].iter().all(|(before, _)| before != field),
                "field `{}` is given twice",
                join(path, field)
            );
        }
        let mut missing = Vec::new();
        self.write_members(place, fields, path, &mut missing)?;
        if self.left_out == LeftOut::Refused && !missing.is_empty() {
            bail!("left out: {}", missing.join(", "));
        }
        Ok(())
    }

    /// Whether any member was given; what was not is in `missing`.
    fn write_members(
        &mut self,
        place: &Place,
        fields: &Fields,
        path: &str,
        missing: &mut Vec<String>,
    ) -> Result<bool> {
        let (mut given, mut lacks) = (Vec::new(), Vec::new());
        for member in place.ty.members() {
            if self.write_member(place, member, fields, path, &mut lacks)? {
                given.push(member);
            }
        }
        if !matches!(place.ty.kind, Kind::Union(_)) {
            missing.extend(lacks);
        } else if !given.is_empty() {
            self.check_agreement(place, &given, fields, path)?;
        } else if !lacks.is_empty() {
            missing.push(format!("one of {}", lacks.join(", ")));
        }
        Ok(!given.is_empty())
    }

    /// The members of an anonymous one are its parent's.
    fn write_member(
        &mut self,
        parent: &Place,
        member: &Member,
        fields: &Fields,
        path: &str,
        missing: &mut Vec<String>,
    ) -> Result<bool> {
        let place = member.place.shifted(parent.bit_offset);
        if member.name.is_empty() {
            return self.write_members(&place, fields, path, missing);
        }
        let path = join(path, &member.name);
        let given = fields.iter().find(|(name, _)| *name == member.name);
        match given {
            Some((_, input)) => self.write(&place, &member.tags, input, &path)?,
            None if member.is_hidden() => {}
            None => missing.push(format!("`{path}`")),
        }
        Ok(given.is_some())
    }

    /// The members of a union share their bytes: writing any of them again must
    /// change nothing.
    fn check_agreement(
        &mut self,
        union: &Place,
        given: &[&Member],
        fields: &Fields,
        path: &str,
    ) -> Result<()> {
        let written = self.bytes.to_vec();
        for member in given {
            self.write_member(union, member, fields, path, &mut Vec::new())?;
            ensure!(
                self.bytes == written,
                "{}the members given of a union disagree: give one of them",
                prefix(path)
            );
        }
        Ok(())
    }
}

const IN_ARRAY: &str = "elements, where the array has";

fn check_count(path: &str, found: usize, what: &str, wanted: usize) -> Result<()> {
    ensure!(found == wanted, "{}{found} {what} {wanted}", prefix(path));
    Ok(())
}

/// An error, with the field that it is about.
fn at<T>(path: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| match path {
        "" => error,
        _ => error.context(format!("field `{path}`")),
    })
}

fn prefix(path: &str) -> String {
    match path {
        "" => String::new(),
        _ => format!("field `{path}`: "),
    }
}

fn join(path: &str, field: &str) -> String {
    match path {
        "" => field.to_owned(),
        _ => format!("{path}.{field}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::decode::Plain;
    use crate::schema::testing::*;
    use crate::schema::types::Type;

    #[test]
    fn structs_arrays_and_unions() {
        let byte = int(1, false);
        let inner = structure(1, vec![member("x", 0, &byte)]);
        let either = vec![member("word", 0, &int(2, true)), member("low", 0, &byte)];
        let members = vec![
            member("a", 0, &inner),
            member("b", 1, &Type::array(byte.clone(), 2)),
            bitfield("low", 24, 3, &byte),
            bitfield("", 27, 5, &byte),
            member("u", 4, &union(2, either)),
        ];
        let whole = structure(6, members);
        for text in [
            "a.x=1,b=[2,3],low=5,u.word=-2",
            "a=1,b[0]=2,b[1]=3,low=5,u={\"word\":-2}",
            r#"{"a":{"x":1},"b":[2,3],"low":5,"u":{"word":-2,"low":254}}"#,
            "hex:01 02 03 05 fe ff",
            "u=hex:feff,low=0x5,b=hex:0203,a=hex:01",
        ] {
            check_read([(&whole, text, &[1, 2, 3, 5, 0xfe, 0xff])]);
        }
        let two = "1 elements, where the array has 2";
        for (text, words) in [
            ("a.x=1", "left out: `b`, `low`, `u`"),
            ("a.x=256", "field `a.x`: 256 is out of range: 0 to 255"),
            ("low=8", "field `low`: 8 is out of range: 0 to 7"),
            ("b=[2]", &format!("field `b`: {two}")),
            ("b[2]=2", "no element `b.2`: there are 2"),
            ("b[1]=2", &format!("field `b`: {two}")),
            ("a.y=1", "no field named `a.y`"),
            ("a.x=1,a.x=2", "field `a.x` is given twice"),
            (
                "a.x=1,b=[2,3],low=5,u=",
                "left out: one of `u.word`, `u.low`",
            ),
            ("u={\"word\":1,\"low\":2}", "disagree"),
            ("a.x", "`a.x` is not FIELD=VALUE"),
            ("{", "is not JSON"),
            ("hex:01", "1 bytes, where the type has 6"),
        ] {
            check_refused([(&whole, text, words)]);
        }
    }

    #[test]
    fn what_is_left_out_can_be_kept() {
        let byte = int(1, false);
        let two = structure(2, vec![member("a", 0, &byte), member("b", 1, &byte)]);
        let (place, tags, mut bytes) = (Place::whole(two), Tags::default(), [7, 8]);
        super::parse(&place, &tags, "b=1", LeftOut::Kept, &Plain, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 1]);
    }

    /// The edges are multiples of the step, which its type has.
    #[test]
    fn linear_histograms_as_they_are_shown() {
        let word = int(8, false);
        let buckets = Type::array(word.clone(), Histogram::BUCKETS);
        let step = Type::array(Type::array(int(1, true), 5), 0);
        let places = [
            ("sum", 0, &word),
            ("buckets", 8, &buckets),
            ("step", 520, &step),
        ];
        let members = places.map(|(name, byte, ty)| member(name, byte, ty)).into();
        let linear = structure(520, members);
        assert_eq!(Scale::of(&linear), Some(Scale::Linear(5)));
        let bytes = read(&linear, r#"{"count":3,"sum":19,"buckets":[[0,1],[10,2]]}"#).unwrap();
        let read = Histogram::of_bytes(&linear, &bytes);
        assert_eq!((read.sum, read.buckets[0], read.buckets[2]), (19, 1, 2));
        let (last, no_edge) = (Scale::Linear(5).edge(63), "8 is not the edge");
        assert_eq!((Scale::Linear(5).edge(62), last), (310, u64::MAX));
        check_refused([(&linear, r#"{"sum":9,"buckets":[[8,1]]}"#, no_edge)]);
    }

    #[test]
    fn histograms_as_they_are_shown_and_as_they_are() {
        let word = int(8, false);
        let buckets = Type::array(word.clone(), Histogram::BUCKETS);
        let members = vec![member("sum", 0, &word), member("buckets", 8, &buckets)];
        let name = "struct tally_histogram";
        let histogram = Type::new(name, 8 * Histogram::CELLS, Kind::Struct(members));
        let shown = r#"{"count":3,"sum":9,"mean":3.0,"p50":5,"p90":null,"buckets":[[1,1],[8,2]]}"#;
        let bytes = read(&histogram, shown).unwrap();
        let read = Histogram::of_bytes(&Scale::Log2.ty(), &bytes);
        assert_eq!((read.sum, read.count(), read.buckets[3]), (9, 3, 2));
        let zeroes = format!("hex:{}", "00".repeat(520));
        check_read([(&histogram, &zeroes, &[0; 520])]);
        check_refused([
            (
                &histogram,
                r#"{"count":4,"sum":9,"buckets":[[1,1]]}"#,
                "`count` is not what",
            ),
            (
                &histogram,
                r#"{"sum":9,"buckets":[[3,1]]}"#,
                "3 is not the edge",
            ),
            (&histogram, r#"{"sum":9,"buckets":[[1]]}"#, "[edge, count]"),
            (&histogram, r#"{"sum":9}"#, "left out: `buckets`"),
        ]);
    }
}
