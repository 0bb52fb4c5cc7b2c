//! The tallies that a command line names, each with the options given to it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use clap::{Arg, ArgMatches};

use super::Action;
use super::options::{self, own_option};
use crate::error::{unknown, usage};
use crate::schema::{Hints, Kind, OptionSpec};
use crate::tally::{RawOption, Tally};

/// A tally, and what is asked of it.
#[derive(Debug)]
pub struct Chosen {
    /// From the catalogue or a file.
    pub tally: Tally,
    /// The options that it has: of the command line, and of `NAME:option=value`.
    pub given: Vec<RawOption>,
    /// Flags that were given to other tallies, and that it does not have.
    pub lacks: Vec<String>,
}

/// `a,b:option=value:option`: the words of each tally, its name first. A file may have
/// any name.
pub(super) fn words(operand: &OsStr) -> Vec<Vec<OsString>> {
    if Path::new(operand).exists() || operand.to_str().is_some_and(is_query) {
        return vec![vec![operand.to_owned()]];
    }
    let split = |text: &[u8], at: u8| -> Vec<OsString> {
        let parts = text.split(|byte| *byte == at);
        parts.map(|part| OsStr::from_bytes(part).into()).collect()
    };
    let tallies = split(operand.as_bytes(), b',').into_iter();
    tallies.map(|tally| split(tally.as_bytes(), b':')).collect()
}

/// `count sched_switch --by prev.comm`: a query in place of a name.
pub(super) fn is_query(operand: &str) -> bool {
    operand.split_whitespace().next() == Some("count") && operand.trim() != "count"
}

/// The flags of all tallies; one that several have stands for all of them.
pub(super) fn flags(tallies: &[Tally]) -> Vec<Arg> {
    let mut flags: Vec<Arg> = Vec::new();
    for tally in tallies {
        for option in tally.schema.options.iter().filter(|it| !it.is_found) {
            let arg = own_option(option, tally);
            if flags.iter().all(|known| known.get_id() != arg.get_id()) {
                let having = tallies.iter().filter(|tally| has(tally, &option.name));
                let having: Vec<&str> = having.map(|tally| tally.name.as_str()).collect();
                let heading = format!("Options of {} (what and whom to count)", having.join(", "));
                let short = arg.get_short();
                let is_taken = flags.iter().any(|known| known.get_short() == short);
                let short = short.filter(|_| !is_taken);
                flags.push(arg.short(short).help_heading(heading));
            }
        }
    }
    flags
}

fn has(tally: &Tally, option: &str) -> bool {
    let mut options = tally.schema.options.iter();
    options.any(|known| known.name == option)
}

/// Each tally with what is given to it, on the command line and in its `words`.
pub(super) fn chosen(
    tallies: Vec<Tally>,
    words: &[Vec<OsString>],
    matches: &ArgMatches,
) -> Result<Vec<Chosen>> {
    for (i, tally) in tallies.iter().enumerate() {
        if tallies[..i].iter().any(|other| other.name == tally.name) {
            let name = &tally.name;
            return Err(usage(format!("tally `{name}` is named twice")));
        }
    }
    let given: Vec<_> = tallies
        .iter()
        .map(|it| options::given(matches, it))
        .collect();
    let known = tallies.iter().flat_map(|tally| &tally.schema.options);
    let known = known.filter(|option| !option.is_found);
    let is_given = |option: &&OptionSpec| given.iter().flatten().any(|it| it.0 == option.name);
    let all = known
        .filter(is_given)
        .map(|it| (it.name.clone(), it.flag()));
    let all: BTreeMap<String, String> = all.collect();
    let each = tallies.into_iter().zip(given).zip(words);
    each.map(|((mut tally, mut given), words)| {
        tally.all_programs = matches.get_flag("all_programs");
        tally.per_cpu_rows = matches.get_flag("per_cpu_rows");
        let own = own(&tally, words)?;
        given.retain(|(name, _)| own.iter().all(|(own, _)| own != name));
        given.extend(own);
        let lacks = all.iter().filter(|(name, _)| !has(&tally, name));
        let lacks = lacks.map(|(_, flag)| flag.clone()).collect();
        Ok(Chosen {
            tally,
            given,
            lacks,
        })
    })
    .collect()
}

/// Follows what the command line says of objects in place of tags. Of several tallies,
/// each follows what is about it.
pub(super) fn adapt(chosen: &mut [Chosen], action: &Action, used: &[OsString]) -> Result<()> {
    let (mut hints, loading) = match action {
        Action::Run(args) => (args.hints(), &args.loading),
        Action::Top(args) => (args.hints(), &args.loading),
        Action::Export(args) => (args.hints(), &args.loading),
        Action::Attach(args) => (Hints::default(), &args.loading),
        _ => return Ok(()),
    };
    if loading.compile.flags() != used {
        return Err(usage(
            "write -I, -D and --cflags before the options of the tally, which clang makes known",
        ));
    }
    let is_one = chosen.len() == 1;
    hints.are_for_several |= !is_one;
    for Chosen { tally, given, .. } in chosen {
        let settings = loading.settings.iter();
        given.extend(settings.filter(|it| is_one || has(tally, &it.0)).cloned());
        let targets = loading.targets.iter();
        let targets = targets.filter(|it| is_one || tally.has_program(&it.0));
        tally.adapt(&hints, &targets.cloned().collect::<Vec<_>>())?;
    }
    Ok(())
}

/// `option=value`, or `option` alone. A word that is not an option continues the value
/// before it, which may have a `:`.
fn own(tally: &Tally, words: &[OsString]) -> Result<Vec<RawOption>> {
    let mut given: Vec<RawOption> = Vec::new();
    for word in words.iter().skip(1) {
        let word = word.to_string_lossy();
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&*word, None),
        };
        let options = tally.schema.options.iter();
        let option = options.clone().find(|option| option.flag() == name);
        match (option, given.last_mut()) {
            (Some(option), _) => {
                let value = value.unwrap_or(if is_bool(option) { "true" } else { "" });
                given.push((option.name.clone(), value.to_owned()));
            }
            (None, Some((_, value))) => {
                value.push(':');
                value.push_str(&word);
            }
            (None, None) => {
                let known: Vec<String> = options.map(OptionSpec::flag).collect();
                let what = format!("option of tally `{}`", tally.name);
                return Err(unknown(&what, name, known.iter().map(String::as_str)));
            }
        }
    }
    Ok(given)
}

fn is_bool(option: &OptionSpec) -> bool {
    matches!(option.place.ty.kind, Kind::Bool)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cli::parse;

    fn own_of(name: &str, words: &str) -> Result<Vec<RawOption>> {
        let tally = Tally::find(OsStr::new(name)).unwrap();
        let words = super::words(OsStr::new(words));
        assert_eq!(words.len(), 1);
        own(&tally, &words[0])
    }

    #[test]
    fn tallies_are_separated_by_commas_and_options_by_colons() {
        let split = |text: &str| -> Vec<Vec<String>> {
            let words = words(OsStr::new(text)).into_iter();
            let text = |words: Vec<OsString>| {
                let words = words.into_iter();
                words.map(|word| word.into_string().unwrap()).collect()
            };
            words.map(text).collect()
        };
        assert_eq!(split("a"), [["a"]]);
        assert_eq!(split("a,b"), [["a"], ["b"]]);
        assert_eq!(split("a:x=1:y,b"), [vec!["a", "x=1", "y"], vec!["b"]]);
        assert_eq!(split("a,"), [["a"], [""]]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a,b:c.bpf.c");
        std::fs::write(&file, "").unwrap();
        assert_eq!(words(file.as_os_str()), [[file.as_os_str()]]);
    }

    /// Each once, however many of the others have it.
    #[test]
    fn a_tally_names_the_flags_that_it_lacks() {
        let line = "ktally run opens,failures,softirqs --comm dd --by-pid";
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let request = parse(&line).unwrap();
        let lacks = request.tallies.iter().map(|it| it.lacks.join(" "));
        assert_eq!(lacks.collect::<Vec<_>>(), ["", "", "by-pid comm"]);
    }

    #[test]
    fn options_of_one_tally() {
        let given = |all: &[(&str, &str)]| -> Vec<RawOption> {
            let all = all.iter();
            all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let none = own_of("blkio", "blkio").unwrap();
        assert_eq!(none, given(&[]));
        let device = own_of("blkio", "blkio:device=8:0").unwrap();
        assert_eq!(device, given(&[("device", "8:0")]));
        let both = own_of("cputime", "cputime:by-pid:uid=0").unwrap();
        assert_eq!(both, given(&[("by_pid", "true"), ("uid", "0")]));
        let error = own_of("blkio", "blkio:devise=8").unwrap_err().to_string();
        let wanted = "no option of tally `blkio` named `devise`; did you mean `device`?";
        assert_eq!(error, wanted);
    }
}
