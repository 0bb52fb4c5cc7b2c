//! Text to bytes, by type: what `decode` does, the other way round.

use anyhow::{Result, anyhow, bail, ensure};

use super::decode::Names;
use super::histogram::Histogram;
use super::input::Input;
use super::tags::Tags;
use super::types::{Kind, Member, Place, Type};
use super::word::{
    field_names, in_range, parse_float, parse_number, parse_text, wanted, with_unit,
};
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
    let parser = Parser { names, left_out };
    ensure!(
        place.bit_offset / 8 + place.ty.size <= bytes.len(),
        "the type is larger than its {} bytes",
        bytes.len()
    );
    match parser.write(place, tags, &Input::word(text), bytes, "") {
        Ok(()) => Ok(()),
        Err(error) => Err(usage(format!("{error:#}"))),
    }
}

struct Parser<'l> {
    names: &'l dyn Names,
    left_out: LeftOut,
}

impl Parser<'_> {
    fn write(
        &self,
        place: &Place,
        tags: &Tags,
        input: &Input,
        bytes: &mut [u8],
        path: &str,
    ) -> Result<()> {
        let ty = &*place.ty;
        let input = &at(path, input.for_type(ty))?;
        match (&ty.kind, input) {
            (_, Input::Bytes(given)) if place.bits.is_none() => {
                check_count(path, given.len(), "bytes, where the type has", ty.size)?;
                place.put_bytes(bytes, given);
                Ok(())
            }
            (_, Input::Word(text)) => at(path, self.write_word(place, tags, text, bytes)),
            (Kind::Struct(_), Input::Fields(fields)) if is_observed(ty, fields) => {
                let histogram = at(path, observed(fields))?;
                place.put_bytes(bytes, &histogram.to_bytes());
                Ok(())
            }
            (Kind::Struct(_) | Kind::Union(_), Input::Fields(fields)) => {
                self.write_fields(place, fields, bytes, path)
            }
            (Kind::Array { element, len }, Input::List(items)) => {
                // Elements of no bytes are not shown.
                let wanted = if element.size == 0 { items.len() } else { *len };
                check_count(path, items.len(), IN_ARRAY, wanted)?;
                for (i, item) in items.iter().enumerate() {
                    let path = join(path, &i.to_string());
                    self.write(&place.element(element, i), tags, item, bytes, &path)?;
                }
                Ok(())
            }
            (Kind::Array { .. }, Input::Fields(fields)) => {
                self.write_elements(place, tags, fields, bytes, path)
            }
            _ => bail!("{}{}", prefix(path), wanted(ty)),
        }
    }

    /// Elements of an array by their numbers.
    fn write_elements(
        &self,
        place: &Place,
        tags: &Tags,
        fields: &[(String, Input)],
        bytes: &mut [u8],
        path: &str,
    ) -> Result<()> {
        let Kind::Array { element, len } = &place.ty.kind else {
            return Ok(());
        };
        for (index, item) in fields {
            let path = join(path, index);
            let i = index.parse().ok().filter(|i| i < len);
            let i = i.ok_or_else(|| anyhow!("no element `{path}`: there are {len}"))?;
            self.write(&place.element(element, i), tags, item, bytes, &path)?;
        }
        match self.left_out {
            LeftOut::Refused => check_count(path, fields.len(), IN_ARRAY, *len),
            LeftOut::Kept => Ok(()),
        }
    }

    /// One word: a text, or a number in whatever struct or array has its bytes.
    fn write_word(&self, place: &Place, tags: &Tags, text: &str, bytes: &mut [u8]) -> Result<()> {
        let ty = &*place.ty;
        match &ty.kind {
            Kind::Array { .. } | Kind::Struct(_) | Kind::Union(_) => {
                let decoder = tags.decoder.as_ref().filter(|_| ty.size == 16);
                let address = decoder.map(|decoder| self.names.number(decoder, text));
                match address.transpose()?.flatten() {
                    Some(address) => place.put(bytes, address as u128),
                    None if ty.is_text() => place.put_bytes(bytes, &parse_text(ty.size, text)?),
                    None => bail!("{}", wanted(ty)),
                }
            }
            Kind::Float => place.put_bytes(bytes, &parse_float(ty.size, text)?),
            _ => place.put(bytes, self.number(place, tags, text)? as u128),
        }
        Ok(())
    }

    fn write_fields(
        &self,
        place: &Place,
        fields: &[(String, Input)],
        bytes: &mut [u8],
        path: &str,
    ) -> Result<()> {
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
        self.write_members(place, fields, bytes, path, &mut missing)?;
        if self.left_out == LeftOut::Refused && !missing.is_empty() {
            bail!("left out: {}", missing.join(", "));
        }
        Ok(())
    }

    /// Whether any member was given; what was not is in `missing`.
    fn write_members(
        &self,
        place: &Place,
        fields: &[(String, Input)],
        bytes: &mut [u8],
        path: &str,
        missing: &mut Vec<String>,
    ) -> Result<bool> {
        let is_union = matches!(place.ty.kind, Kind::Union(_));
        let mut lacks = Vec::new();
        let mut given = Vec::new();
        for member in place.ty.members() {
            let inner = member.place.shifted(place.bit_offset);
            if member.name.is_empty() {
                if self.write_members(&inner, fields, bytes, path, &mut lacks)? {
                    given.push(member);
                }
                continue;
            }
            let path = join(path, &member.name);
            match fields.iter().find(|(name, _)| *name == member.name) {
                Some((_, input)) => {
                    self.write(&inner, &member.tags, input, bytes, &path)?;
                    given.push(member);
                }
                None if member.is_hidden() => {}
                None => lacks.push(format!("`{path}`")),
            }
        }
        if is_union && given.len() > 1 {
            self.check_agreement(place, &given, fields, bytes, path)?;
        }
        match (is_union, given.is_empty()) {
            (true, true) if !lacks.is_empty() => {
                missing.push(format!("one of {}", lacks.join(", ")));
            }
            (true, _) => {}
            (false, _) => missing.extend(lacks),
        }
        Ok(!given.is_empty())
    }

    /// The members of a union share their bytes: writing any of them again must
    /// change nothing.
    fn check_agreement(
        &self,
        place: &Place,
        given: &[&Member],
        fields: &[(String, Input)],
        bytes: &[u8],
        path: &str,
    ) -> Result<()> {
        for member in given {
            let mut again = bytes.to_vec();
            let inner = member.place.shifted(place.bit_offset);
            match fields.iter().find(|(name, _)| *name == member.name) {
                Some((_, input)) => self.write(&inner, &member.tags, input, &mut again, path)?,
                None => {
                    self.write_members(&inner, fields, &mut again, path, &mut Vec::new())?;
                }
            }
            ensure!(
                again == bytes,
                "{}the members given of a union disagree: give one of them",
                prefix(path)
            );
        }
        Ok(())
    }

    /// A number that fits its place, in two's complement.
    fn number(&self, place: &Place, tags: &Tags, text: &str) -> Result<i128> {
        let ty = &*place.ty;
        let named = match (&tags.decoder, &ty.kind) {
            (Some(decoder), _) => self.names.number(decoder, text)?,
            (None, Kind::Enum { variants, .. }) => {
                let variant = variants.iter().find(|variant| variant.name == text);
                if variant.is_none() && parse_number(text).is_none() {
                    let names = variants.iter().map(|variant| variant.name.as_str());
                    let what = if ty.name.is_empty() { "name" } else { &ty.name };
                    return Err(unknown(what, text, names));
                }
                variant.map(|variant| variant.value)
            }
            (None, Kind::Bool) => match text {
                "true" => Some(1),
                "false" => Some(0),
                _ => None,
            },
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

/// Whether these fields are a histogram as [`Histogram`] is shown, rather than
/// as C declares it.
fn is_observed(ty: &Type, fields: &[(String, Input)]) -> bool {
    let is_pair = |input: &Input| matches!(input, Input::List(_));
    Histogram::is(ty)
        && fields.iter().any(|(name, input)| match input {
            Input::List(items) => name == "buckets" && items.iter().all(is_pair),
            _ => name == "count",
        })
}

/// `sum`, `[edge, count]` pairs, and a `count` that must be theirs.
fn observed(fields: &[(String, Input)]) -> Result<Histogram> {
    let whole = |input: &Input| match input {
        Input::Word(text) => text.parse::<u64>().ok(),
        _ => None,
    };
    let mut histogram = Histogram::EMPTY;
    let mut count = None;
    for (name, input) in fields {
        match (name.as_str(), input) {
            ("sum", input) => {
                histogram.sum = whole(input).ok_or_else(|| anyhow!("`sum` is a whole number"))?;
            }
            ("count", input) => count = whole(input),
            ("buckets", Input::List(pairs)) => {
                for pair in pairs {
                    let pair = match pair {
                        Input::List(pair) => pair.iter().map(whole).collect::<Option<Vec<_>>>(),
                        _ => None,
                    };
                    let Some(&[edge, number]) = pair.as_deref() else {
                        bail!("`buckets` is a list of [edge, count] pairs");
                    };
                    let bucket = (0..Histogram::BUCKETS).find(|i| Histogram::edge(*i) == edge);
                    let bucket =
                        bucket.ok_or_else(|| anyhow!("{edge} is not the edge of a bucket"))?;
                    histogram.buckets[bucket] = number;
                }
            }
            (other, _) => bail!("a histogram has `count`, `sum` and `buckets`, no `{other}`"),
        }
    }
    ensure!(
        count.is_none_or(|count| count == histogram.count()),
        "`count` is not what the buckets add up to"
    );
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schema::Variant;
    use crate::schema::decode::Plain;

    fn ty(size: usize, kind: Kind) -> Type {
        Type {
            name: "t".into(),
            size,
            kind,
        }
    }

    fn parse(ty: &Type, text: &str) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; ty.size];
        let place = Place::whole(Arc::new(ty.clone()));
        let tags = Tags::default();
        super::parse(&place, &tags, text, LeftOut::Refused, &Plain, &mut bytes)
            .map(|()| bytes)
            .map_err(|error| error.to_string())
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
            "hex:01",
            "[1]",
        ] {
            assert!(parse(&u64s, bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            parse(&u64s, "hex:01 00000000000002"),
            Ok(vec![1, 0, 0, 0, 0, 0, 0, 2])
        );
        let u128s = ty(16, Kind::Int { signed: false });
        assert_eq!(parse(&u128s, &u128::MAX.to_string()), Ok(vec![0xff; 16]));
        assert_eq!(parse(&u128s, "0x1"), parse(&u128s, "1"));
    }

    /// Whatever bytes there are, up to the first NUL.
    #[test]
    fn text_is_typed_as_it_is_shown() {
        let element = Arc::new(ty(1, Kind::Char));
        let comm = ty(6, Kind::Array { element, len: 6 });
        let pieces: [&[u8]; 6] = [b"\\", b"x41", b"\xff", b"u{1}", "é".as_bytes(), b"n"];
        let pairs = pieces.iter().flat_map(|a| pieces.map(|b| [*a, b].concat()));
        let mut seen = std::collections::HashSet::new();
        for mut bytes in pairs.filter(|bytes| bytes.len() <= 6) {
            bytes.resize(6, 0);
            let shown = crate::schema::decode::text(&bytes).to_string();
            assert_eq!(parse(&comm, &shown), Ok(bytes), "{shown}");
            assert!(seen.insert(shown.clone()), "{shown}");
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
            Err("no t named `OFF`; known: `ON`".into())
        );
        let element = Arc::new(ty(1, Kind::Char));
        let comm = ty(4, Kind::Array { element, len: 4 });
        assert_eq!(parse(&comm, "sh"), Ok(b"sh\0\0".to_vec()));
        assert_eq!(parse(&comm, "bash"), Ok(b"bash".to_vec()));
        assert_eq!(parse(&comm, r"a\u{1b}b"), Ok(b"a\x1bb\0".to_vec()));
        assert_eq!(
            parse(&comm, r"\n\q\"),
            Ok(br"?\q\".map(|b| if b == b'?' { b'\n' } else { b }).to_vec())
        );
        assert!(parse(&comm, r"\x00").is_err());
        assert_eq!(
            parse(&comm, "zshrc"),
            Err("5 bytes are too long: at most 4".into())
        );
        assert_eq!(parse(&comm, "\"a=\""), Ok(b"a=\0\0".to_vec()));
        // In quotes within quotes, the inner ones are the text's own.
        assert_eq!(parse(&comm, r#""\"a\"""#), Ok(b"\"a\"\0".to_vec()));
        let named = struct_of(4, vec![member("comm", 0, None, comm.clone())]);
        assert_eq!(
            parse(&named, r#"{"comm":"\"a\""}"#),
            Ok(b"\"a\"\0".to_vec())
        );
        assert_eq!(parse(&named, r#"comm="\"""#), Ok(b"\"\0\0\0".to_vec()));
        assert!(parse(&comm, "a\0b").is_err());
    }

    fn member(name: &str, bit_offset: usize, bits: Option<u8>, ty: Type) -> Member {
        Member {
            name: name.into(),
            place: Place {
                bit_offset,
                bits,
                ty: Arc::new(ty),
            },
            tags: Tags::default(),
        }
    }

    fn struct_of(size: usize, members: Vec<Member>) -> Type {
        ty(size, Kind::Struct(members))
    }

    #[test]
    fn structs_arrays_and_unions() {
        let byte = || ty(1, Kind::Int { signed: false });
        let pair = Kind::Array {
            element: Arc::new(byte()),
            len: 2,
        };
        let either = ty(
            2,
            Kind::Union(vec![
                member("word", 0, None, ty(2, Kind::Int { signed: true })),
                member("low", 0, None, byte()),
            ]),
        );
        let inner = struct_of(1, vec![member("x", 0, None, byte())]);
        let whole = struct_of(
            6,
            vec![
                member("a", 0, None, inner),
                member("b", 8, None, ty(2, pair)),
                member("low", 24, Some(3), byte()),
                member("", 27, Some(5), byte()),
                member("u", 32, None, either),
            ],
        );
        let good = Ok(vec![1, 2, 3, 5, 0xfe, 0xff]);
        for text in [
            "a.x=1,b=[2,3],low=5,u.word=-2",
            "a=1,b[0]=2,b[1]=3,low=5,u={\"word\":-2}",
            r#"{"a":{"x":1},"b":[2,3],"low":5,"u":{"word":-2,"low":254}}"#,
            "hex:01 02 03 05 fe ff",
            "u=hex:feff,low=0x5,b=hex:0203,a=hex:01",
        ] {
            assert_eq!(parse(&whole, text), good, "{text}");
        }
        for (text, words) in [
            ("a.x=1", "left out: `b`, `low`, `u`"),
            (
                "a.x=256,b=[2,3],low=5,u.word=0",
                "field `a.x`: 256 is out of range: 0 to 255",
            ),
            (
                "a.x=1,b=[2,3],low=8,u.word=0",
                "field `low`: 8 is out of range: 0 to 7",
            ),
            (
                "a.x=1,b=[2],low=5,u.word=0",
                "field `b`: 1 elements, where the array has 2",
            ),
            (
                "a.x=1,b[2]=2,low=5,u.word=0",
                "no element `b.2`: there are 2",
            ),
            (
                "a.x=1,b[1]=2,low=5,u.word=0",
                "field `b`: 1 elements, where the array has 2",
            ),
            ("a.y=1,b=[2,3],low=5,u.word=0", "no field named `a.y`"),
            (
                "a.x=1,a.x=2,b=[2,3],low=5,u.word=0",
                "field `a.x` is given twice",
            ),
            (
                "a.x=1,b=[2,3],low=5,u=",
                "left out: one of `u.word`, `u.low`",
            ),
            ("a.x=1,b=[2,3],low=5,u={\"word\":1,\"low\":2}", "disagree"),
            ("a.x", "`a.x` is not FIELD=VALUE"),
            ("{", "is not JSON"),
            ("hex:01", "1 bytes, where the type has 6"),
        ] {
            let said = parse(&whole, text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_left_out_can_be_kept() {
        let byte = || ty(1, Kind::Int { signed: false });
        let two = struct_of(
            2,
            vec![member("a", 0, None, byte()), member("b", 8, None, byte())],
        );
        let mut bytes = vec![7, 8];
        let place = Place::whole(Arc::new(two));
        let tags = Tags::default();
        super::parse(&place, &tags, "b=1", LeftOut::Kept, &Plain, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 1]);
    }

    #[test]
    fn histograms_as_they_are_shown_and_as_they_are() {
        let u64s = || ty(8, Kind::Int { signed: false });
        let buckets = Kind::Array {
            element: Arc::new(u64s()),
            len: Histogram::BUCKETS,
        };
        let histogram = Type {
            name: format!("struct {}", Histogram::C_NAME),
            ..struct_of(
                Histogram::CELLS * 8,
                vec![
                    member("sum", 0, None, u64s()),
                    member("buckets", 64, None, ty(Histogram::BUCKETS * 8, buckets)),
                ],
            )
        };
        let bytes = parse(&histogram, r#"{"count":3,"sum":9,"buckets":[[1,1],[8,2]]}"#).unwrap();
        let read = Histogram::of_bytes(&bytes);
        assert_eq!((read.sum, read.count(), read.buckets[3]), (9, 3, 2));
        assert_eq!(
            parse(&histogram, &format!("hex:{}", "00".repeat(520))),
            Ok(vec![0; 520])
        );
        for bad in [
            r#"{"count":4,"sum":9,"buckets":[[1,1]]}"#,
            r#"{"sum":9,"buckets":[[3,1]]}"#,
            r#"{"sum":9,"buckets":[[1]]}"#,
            r#"{"sum":9}"#,
        ] {
            assert!(parse(&histogram, bad).is_err(), "{bad}");
        }
    }
}
