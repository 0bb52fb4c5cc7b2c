//! A tally's own options: text from the command line into `.rodata`.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail};

use crate::error::{unknown, usage};
use crate::host;
use crate::names::HostNames;
use crate::schema::{Decoder, Kind, LeftOut, OptionSpec, Place, Schema, Tags, parse};

/// An option that the user gave: its name in C and its text.
pub type RawOption = (String, String);

/// Bytes for `.rodata`, and their offset.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedOption {
    /// From the start of the section.
    pub(crate) offset: usize,
    /// As long as the variable.
    pub bytes: Vec<u8>,
}

/// Checks the given options against their types, before anything is loaded.
pub fn resolve(options: &[OptionSpec], given: &[RawOption]) -> Result<Vec<ResolvedOption>> {
    let mut resolved = Vec::new();
    for (name, text) in given {
        let Some(option) = options.iter().find(|option| option.name == *name) else {
            return Err(unknown(
                "option",
                name,
                options.iter().map(|option| option.name.as_str()),
            ));
        };
        let bytes = bytes_of(option, text).map_err(|error| refused(option, text, &error))?;
        resolved.push(ResolvedOption {
            offset: option.place.bit_offset / 8,
            bytes,
        });
        if let Some(flag) = &option.given {
            resolved.push(ResolvedOption {
                offset: flag.bit_offset / 8,
                bytes: vec![1],
            });
        }
    }
    Ok(resolved)
}

/// What was given, and what these fields need beside it: `--by pid` is `--by-pid` as
/// well.
pub(crate) fn with_fields(schema: &Schema, given: &[RawOption], fields: &[&str]) -> Vec<RawOption> {
    let mut all = given.to_vec();
    for (_, option) in schema.options_for(fields) {
        let is_given = all.iter().any(|(name, _)| *name == option.name);
        if !is_given && option.place.ty.kind == Kind::Bool {
            all.push((option.name.clone(), "true".to_owned()));
        }
    }
    all
}

fn bytes_of(option: &OptionSpec, text: &str) -> Result<Vec<u8>> {
    let place = Place::whole(Arc::clone(&option.place.ty));
    let tags = Tags {
        unit: option.unit.clone(),
        decoder: option.decoder.clone(),
        ..Tags::default()
    };
    let mut bytes = vec![0; place.ty.size];
    // C reads a text up to its NUL, so it needs one.
    let room = bytes.len().saturating_sub(1);
    // A path is taken literally; a process name may have escapes, as in output.
    let text = match option.decoder {
        None if place.ty.is_text() => text.replace('\\', "\\x5c"),
        _ => text.to_owned(),
    };
    if option.decoder == Some(Decoder::COMM) && text.contains(',') {
        bail!(
            "it takes one name: run once for each, or count all and show one with `--where` (a comma in a name is `\\x2c`)"
        );
    }
    parse(
        &place,
        &tags,
        &text,
        LeftOut::Refused,
        &HostNames::new(),
        &mut bytes,
    )?;
    if place.ty.is_text() && bytes.last().is_some_and(|last| *last != 0) {
        bail!("{} bytes are too long: at most {room}", bytes.len());
    }
    check_on_host(option, &place.decode(&bytes).to_string())?;
    Ok(bytes)
}

/// A process or CPU has to exist.
fn check_on_host(option: &OptionSpec, value: &str) -> Result<()> {
    if option.decoder == Some(Decoder::PID) {
        host::check_process(value)?;
    }
    if option.decoder == Some(Decoder::CPU) && !host::has_cpu(value) {
        bail!("this host has CPUs {}", host::present_cpus());
    }
    Ok(())
}

fn refused(option: &OptionSpec, text: &str, error: &anyhow::Error) -> anyhow::Error {
    let flag = option.flag();
    usage(format!("invalid value `{text}` for `--{flag}`: {error:#}"))
}

impl ResolvedOption {
    /// Writes the bytes into the section.
    pub(super) fn write(&self, rodata: &mut [u8]) -> Result<()> {
        let end = self.offset + self.bytes.len();
        let target = rodata
            .get_mut(self.offset..end)
            .ok_or_else(|| anyhow!("the object's .rodata is shorter than its BTF says"))?;
        target.copy_from_slice(&self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Type, Unit};

    fn option(name: &str, size: usize, offset: usize) -> OptionSpec {
        OptionSpec {
            name: name.into(),
            help: String::new(),
            place: Place::whole(Type::unsigned(size)).shifted(offset * 8),
            unit: None,
            decoder: None,
            short: None,
            given: None,
            is_found: false,
        }
    }

    fn given(name: &str, text: &str) -> Vec<RawOption> {
        vec![(name.into(), text.into())]
    }

    #[test]
    fn options_become_bytes_at_their_place() {
        let mut uid = option("uid", 4, 8);
        uid.given = Some(Place::whole(Type::unsigned(1)).shifted(12 * 8));
        let mut longer = option("longer_than", 8, 16);
        longer.unit = Some(Unit::Time(1));
        let options = [uid, longer];
        let mut rodata = [0xaa; 24];
        let mut all = given("uid", "258");
        all.extend(given("longer_than", "1us"));
        for option in resolve(&options, &all).unwrap() {
            option.write(&mut rodata).unwrap();
        }
        assert_eq!(rodata[8..13], [2, 1, 0, 0, 1]);
        assert_eq!(rodata[13], 0xaa);
        assert_eq!(rodata[16..], [0xe8, 3, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_cpu_is_one_that_this_host_has() {
        let mut cpu = option("cpu", 4, 0);
        cpu.decoder = Some(Decoder::CPU);
        let resolve = |text| resolve(std::slice::from_ref(&cpu), &given("cpu", text));
        assert_eq!(resolve("0").unwrap()[0].bytes, [0; 4]);
        let error = resolve("1000000").unwrap_err().to_string();
        let words = "invalid value `1000000` for `--cpu`: this host has CPUs 0";
        assert!(error.starts_with(words), "{error}");
    }

    #[test]
    fn a_process_name_is_one() {
        let (element, len) = (Type::unsigned(1), 16);
        let element = Arc::new(Type {
            kind: Kind::Char,
            ..(*element).clone()
        });
        let mut comm = option("comm", 16, 0);
        comm.place = Place::whole(Arc::new(Type {
            name: "char[16]".into(),
            size: 16,
            kind: Kind::Array { element, len },
        }));
        let bytes = |option: &OptionSpec, text| {
            let resolved = resolve(std::slice::from_ref(option), &given("comm", text));
            resolved.map(|resolved| resolved[0].bytes.clone())
        };
        // A path, for all that is known.
        assert_eq!(bytes(&comm, r"a,\x2c").unwrap()[..7], *b"a,\\x2c\0");
        comm.decoder = Some(Decoder::COMM);
        assert_eq!(bytes(&comm, r"a\x2cb").unwrap()[..4], *b"a,b\0");
        let error = bytes(&comm, "dd,find").unwrap_err().to_string();
        assert!(
            error.contains("`--comm`: it takes one name: run once"),
            "{error}"
        );
        assert!(bytes(&comm, "sixteen letters!").is_err());
    }

    #[test]
    fn fields_give_the_options_that_they_need() {
        use crate::schema::{Label, Table};
        let mut by_pid = option("by_pid", 1, 0);
        by_pid.place.ty = Arc::new(Type {
            kind: Kind::Bool,
            ..(*by_pid.place.ty).clone()
        });
        let number = Type::unsigned(4);
        let mut table = Table::new("t", &Tags::default(), 8, &number, &number);
        let label = |name: &str, with: &str| Label {
            name: name.into(),
            place: Place::whole(Type::unsigned(4)),
            decoder: None,
            with: Some(with.into()),
            idle: Vec::new(),
        };
        // Such an option is not a flag, or there is none.
        table.labels = vec![
            label("pid", "by_pid"),
            label("depth", "max_depth"),
            label("comm", "by_comm"),
        ];
        let schema = Schema {
            options: vec![by_pid, option("max_depth", 4, 4)],
            tables: vec![table],
            ..Schema::default()
        };
        let fields = ["comm", "pid", "pid", "depth", "unknown"];
        assert_eq!(with_fields(&schema, &[], &fields), given("by_pid", "true"));
        let off = given("by_pid", "false");
        assert_eq!(with_fields(&schema, &off, &fields), off);
        assert_eq!(with_fields(&schema, &[], &[]), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let options = [option("max_depth", 1, 0)];
        let error = |name, text| {
            resolve(&options, &given(name, text))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error("max_depth", "256"),
            "invalid value `256` for `--max-depth`: 256 is out of range: 0 to 255"
        );
        assert_eq!(
            error("max_depth", ""),
            "invalid value `` for `--max-depth`: write a whole number"
        );
        assert_eq!(
            error("depth", "1"),
            "no option named `depth`; did you mean `max_depth`?"
        );
        let outside = ResolvedOption {
            offset: 4,
            bytes: vec![0],
        };
        assert!(outside.write(&mut [0; 4]).is_err());
    }
}
