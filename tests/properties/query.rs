//! What `ktally count` is asked for: any text is refused by its name, or is a plan within
//! the limits of the program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ktally::names::HostNames;
use ktally::query::{Plan, Query, World};
use ktally::schema::KernelBtf;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::USUAL;
use crate::hold::hold;

const EVENTS: &str = "event texts small sys_enter many nameless called function:called \
    tracepoint:group:thing uprobe:/bin/sh:main cpu-clock@99";
const DECODERS: &str = "hex text bytes pid ip ipv6 bool enum:reason nothing";
const SIGNS: &str = "= != < <= > >= & ==";

/// The record of `tracepoint:group:thing`.
const FORMAT: &str = "format:
\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:40;\tsize:4;\tsigned:0;
\tfield:__u8 saddr[28];\toffset:44;\tsize:28;\tsigned:0;
\tfield:short port;\toffset:92;\tsize:2;\tsigned:1;
\tfield:pid_t pids[2];\toffset:144;\tsize:8;\tsigned:1;\n";

/// The types of the unit tests, as clang describes them.
fn types() -> KernelBtf {
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = ("src/query/tests/kinds.c", folder.path().join("kinds.o"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let mut clang = Command::new("clang");
    clang.args(["-target", "bpf", "-g", "-O1", "-c", "-o"]);
    assert!(clang.arg(&object).arg(source).status().unwrap().success());
    KernelBtf::from_path(&object).unwrap()
}

/// The expressions of the unit tests: those that `event` has, or all.
fn written(only_good: bool) -> Vec<&'static str> {
    let files = [
        include_str!("../../src/query/tests.rs"),
        include_str!("../../src/query/tests/errors.rs"),
        include_str!("../../src/query/tests/records.rs"),
    ];
    let lines = files.into_iter().flat_map(str::lines);
    let lines = lines.filter_map(|line| line.trim().split_once(" => "));
    let is_good = |text: &str, way: &str| text.starts_with("thing") && !way.contains('`');
    let lines = lines.filter(|(text, way)| !only_good || is_good(text, way));
    let texts = lines.map(|(text, _)| text.split(" as ").next().unwrap());
    texts.collect()
}

fn one_of(words: &'static str) -> impl Strategy<Value = String> {
    select(words.split_whitespace().collect::<Vec<_>>()).prop_map(str::to_owned)
}

/// Texts with parts of others put over parts of them.
fn spliced(texts: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = String> {
    let places = any::<[Index; 4]>();
    let other = prop_oneof![2 => texts.clone(), 1 => ".{0,4}", 1 => r"[-.>\[\]0-9 =&<:_]{0,4}"];
    let edits = vec((other, places), 0..3);
    (texts, edits).prop_map(|(text, edits)| {
        edits.into_iter().fold(text, |text, (other, places)| {
            let cut = |text: &str, a: Index, b: Index| {
                let ends: Vec<usize> = text.char_indices().map(|it| it.0).collect();
                let mut ends =
                    [a, b].map(|it| it.get(&[&ends[..], &[text.len()]].concat()).to_owned());
                ends.sort_unstable();
                ends
            };
            let [a, b] = cut(&text, places[0], places[1]);
            let [c, d] = cut(&other, places[2], places[3]);
            format!("{}{}{}", &text[..a], &other[c..d], &text[b..])
        })
    })
}

fn expression() -> impl Strategy<Value = String> {
    let texts = |only_good| select(written(only_good)).prop_map(str::to_owned);
    prop_oneof![4 => texts(true), 1 => texts(false), 1 => spliced(texts(true)), 1 => ".{0,8}"]
}

fn event() -> impl Strategy<Value = String> {
    let known = one_of(EVENTS).boxed();
    let usual = Just("event".to_owned());
    prop_oneof![7 => usual, 3 => known.clone(), 1 => spliced(known), 1 => any::<String>()]
}

/// Mostly none.
fn few(texts: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    option::weighted(0.2, texts).prop_map(|text| text.into_iter().collect())
}

fn query() -> impl Strategy<Value = Query> {
    let value = prop_oneof![
        "-?[0-9]{1,20}",
        "[0-9]{1,3}\\.\\.[0-9]{1,3}",
        "[A-Z_]{0,12}",
        ".{0,8}"
    ];
    let filter = (expression(), one_of(SIGNS), value);
    let filter = filter.prop_map(|(text, sign, value)| text + &sign + &value);
    let decoder = (expression(), one_of(DECODERS));
    let decoder = decoder.prop_map(|(text, name)| format!("{text}={name}"));
    let step = prop_oneof![Just(String::new()), ":[0-9]{0,11}"];
    let histogram = (expression(), step).prop_map(|(text, step)| text + &step);
    let good = select(written(true)).prop_map(str::to_owned);
    let by = prop_oneof![vec(expression(), 0..3), vec(good, 0..10)];
    let extremes = (few(expression()), few(expression()));
    let numbers = (few(expression()), extremes, few(histogram));
    let rest = (few(filter), few(decoder));
    let end = option::weighted(0.1, (event(), option::of(expression())));
    let all = (event(), any::<bool>(), by, numbers, rest, end);
    all.prop_map(
        |(event, at_return, by, (sum, (max, min), histogram), (filters, decoders), end)| {
            let (to, per) = end.unzip();
            Query {
                at_return: at_return && event.contains("called"),
                event,
                by,
                sum,
                max,
                min,
                histogram,
                filters,
                decoders,
                to,
                per: per.flatten(),
            }
        },
    )
}

fn words(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).collect()
}

/// A word in backticks was written.
fn names_what_was_written(error: &str, query: &Query) -> bool {
    let lists = [&query.by, &query.sum, &query.max, &query.min];
    let lists = lists
        .into_iter()
        .chain([&query.histogram, &query.filters, &query.decoders]);
    let written = lists.flatten().chain([&query.event]);
    let written: Vec<&String> = written.chain(&query.to).chain(&query.per).collect();
    let known: BTreeSet<&str> = written.iter().flat_map(|text| words(text)).collect();
    // An empty name is named as well.
    let is_written = |quoted: &str| match words(quoted).is_empty() {
        true => quoted.is_empty() || written.iter().any(|it| it.contains(quoted)),
        false => !words(quoted).is_disjoint(&known),
    };
    let is_too_many = error.contains(" is given ") || error.contains(" are given ");
    is_too_many || error.split('`').skip(1).step_by(2).any(is_written)
}

/// `key 0..16: thing.comm, char[16], argument 0, +0 -> +16`: where it ends, its name, and
/// how many pointers are read.
fn understood(c: &str) -> Vec<(usize, &str, usize)> {
    let lines = c.lines().filter_map(|line| line.strip_prefix(" * key "));
    let lines = lines.map(|line| {
        let (place, rest) = line.split_once(": ").unwrap();
        let end = place.split_once("..").unwrap().1.parse().unwrap();
        (
            end,
            rest.split_once(", ").unwrap().0,
            rest.matches(" -> ").count(),
        )
    });
    lines.collect()
}

#[test]
fn queries_are_refused_or_within_the_limits() {
    let kernel = types();
    let world = World {
        kernel: &kernel,
        lacks: &|_| None,
        format: &|_, _| Ok(FORMAT.to_owned()),
    };
    let names = HostNames::new();
    let plan = |query: &Query| Plan::new(query, &world, &names);
    hold(USUAL, query(), |query| {
        let understands = match plan(&query) {
            Ok(understands) => understands,
            Err(error) => {
                let error = format!("{error:#}");
                prop_assert!(names_what_was_written(&error, &query), "{error}");
                return Ok(());
            }
        };
        let c = understands.as_c();
        let key = understood(&c);
        prop_assert!(key.len() == query.by.len() && key.len() <= 8);
        for (end, name, pointers) in &key {
            let is_stack = name.ends_with("stack");
            prop_assert!(*end <= 256 || is_stack, "{name} ends at {end}");
            prop_assert!(*pointers <= 6, "{name} has {pointers}");
        }
        // The names of columns are expressions for the same.
        let by = key.iter().map(|(_, name, _)| (*name).to_owned());
        let again = Query {
            by: by.collect(),
            decoders: Vec::new(),
            ..query.clone()
        };
        if query.decoders.is_empty() {
            prop_assert_eq!(plan(&again).unwrap().as_c(), c);
        }
        Ok(())
    });
}
