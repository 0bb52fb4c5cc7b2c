//! `docs/tallies.md`: what every tally offers, from its BTF, and what the
//! verifier made of it. `make docs` writes it; this test holds that it is
//! current.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use ktally::cli::default;
use ktally::names::meaning;
use ktally::schema::{MetricKind, OptionSpec, Table};
use ktally::tally::{ResolvedOption, Session, Support, Tally};
use libbpf_rs::query::ProgInfoIter;

use crate::support::{Impossible, kernel_series, options_of, require_root};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tallies.md");

fn page() -> String {
    let (major, minor) = kernel_series();
    let mut page = format!(
        "# The tallies\n\n\
         Written by `make docs` from what the tallies say about themselves. *Verified* is the number of\n\
         instructions that the verifier of Linux {major}.{minor} looked at. What an event costs is\n\
         measured by `make bench ARGS=tallies`.\n"
    );
    for tally in Tally::builtins().unwrap() {
        describe(&mut page, &tally);
    }
    page
}

fn describe(page: &mut String, tally: &Tally) {
    writeln!(page, "\n## {}\n\n{}.", tally.name, tally.summary()).unwrap();
    for table in &tally.schema.tables {
        describe_table(page, tally, table);
    }
    if !tally.schema.options.is_empty() {
        writeln!(page, "\n| option | default | |\n|---|---|---|").unwrap();
        for option in &tally.schema.options {
            let default = default(option, tally).map(|it| format!("`{it}`"));
            let default = default.unwrap_or_default();
            let help = &option.help;
            writeln!(page, "| `--{}` | {default} | {help} |", option.flag()).unwrap();
        }
    }
    writeln!(page, "\n| program | event | verified |\n|---|---|---|").unwrap();
    let verified = verified(tally);
    for (name, section) in &tally.programs {
        // Only with a command, which is not what is counted.
        if section.starts_with('?') {
            continue;
        }
        let tags = tally.schema.functions.get(name);
        let event = tags
            .and_then(|tags| tags.attach.as_ref())
            .unwrap_or(section);
        let mut programs = verified.iter();
        let instructions = programs.find(|(program, _)| program == name);
        let with = tags.and_then(|tags| tags.with.as_ref());
        let instructions = match (instructions, with) {
            (Some((_, instructions)), _) => instructions.to_string(),
            (None, Some(option)) => format!("not used without `--{option}`"),
            (None, None) => "not used on that kernel".to_owned(),
        };
        writeln!(page, "| `{name}` | `{event}` | {instructions} |").unwrap();
    }
}

fn describe_table(page: &mut String, tally: &Tally, table: &Table) {
    let (name, help, rows) = (&table.name, &table.help, table.max_entries);
    let with = |option: Option<&OptionSpec>| {
        let condition = option.map(|it| it.condition(&tally.rodata));
        condition.map_or_else(String::new, |(with, flag)| format!(", {with} `{flag}`"))
    };
    let needed = with(tally.schema.option_of_table(table));
    let sorted = table.sort_by.as_ref();
    let sorted = sorted.map_or_else(String::new, |column| format!(", sorted by `{column}`"));
    writeln!(
        page,
        "\nTable `{name}`{needed}: {help}; at most {rows} rows{sorted}.\n"
    )
    .unwrap();
    writeln!(page, "| column | | |\n|---|---|---|").unwrap();
    for label in &table.labels {
        let shown = meaning(label).unwrap_or_else(|| label.place.ty.name.clone());
        let with = with(tally.schema.option_of(&label.with));
        let idle = match &label.idle[..] {
            [] => String::new(),
            values => format!("; {} last", values.join(", ")),
        };
        writeln!(page, "| `{}` | key{with} | {shown}{idle} |", label.name).unwrap();
    }
    for metric in &table.metrics {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge | MetricKind::UnderWay => "gauge",
            MetricKind::Maximum => "maximum",
            MetricKind::Minimum => "minimum",
            MetricKind::Histogram => "histogram",
        };
        let unit = metric.unit.as_ref();
        let unit = unit.map_or_else(String::new, |unit| format!(", {}", unit.name()));
        let with = with(tally.schema.option_of(&metric.with));
        let (name, help) = (&metric.name, &metric.help);
        writeln!(page, "| `{name}` | {kind}{unit}{with} | {help} |").unwrap();
    }
}

/// Every tally loads here, or cannot for a reason that is true: what it cannot
/// attach to is another question.
fn verified(tally: &Tally) -> Vec<(String, u32)> {
    Session::verify(tally, &needed_options(tally)).unwrap_or_else(|error| {
        Impossible::of(tally, &error);
        Vec::new()
    })
}

/// Those that a tally cannot do without.
fn needed_options(tally: &Tally) -> Vec<ResolvedOption> {
    let needed = [("path", "libc.so.6"), ("function", "getppid")];
    let has = |(name, _): &(&str, &str)| tally.schema.options.iter().any(|it| it.name == *name);
    let given: Vec<_> = needed.into_iter().filter(has).collect();
    options_of(tally, &given).unwrap()
}

/// Without the numbers that depend on the kernel, and those numbers.
fn split(page: &str) -> (String, Vec<u32>) {
    let mut numbers = Vec::new();
    let mut text = String::new();
    for line in page.lines() {
        let cell = line.strip_suffix(" |").and_then(|it| it.rsplit_once("| "));
        match cell.map(|(row, cell)| (row, cell.parse())) {
            Some((row, Ok(number))) => {
                numbers.push(number);
                text.push_str(row);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    (text, numbers)
}

#[test]
fn the_page_of_the_tallies_is_current() {
    require_root();
    let now = page();
    if std::env::var_os("KTALLY_WRITE_DOCS").is_some() {
        fs::write(PATH, &now).unwrap();
    }
    let written = fs::read_to_string(Path::new(PATH)).unwrap_or_default();
    let (major, minor) = kernel_series();
    if !written.contains(&format!("Linux {major}.{minor} ")) {
        // Other kernels have other events and another verifier: all of the
        // tallies were loaded above, and that is what can be held here.
        return;
    }
    let ((now, counts), (then, written)) = (split(&now), split(&written));
    assert_eq!(now, then, "docs/tallies.md is not current: run `make docs`");
    for (now, then) in counts.into_iter().zip(written) {
        assert!(now > 0 && now < 1_000_000);
        let is_near = now <= 2 * then && then <= 2 * now;
        assert!(
            is_near,
            "{now} instructions, where docs/tallies.md has {then}: run `make docs`"
        );
    }
}

/// A built-in tally is loaded with the part of the kernel's BTF that it needs, a file
/// with all of it: the kernel gets the same instructions.
#[test]
fn a_part_of_the_kernels_btf_is_enough() {
    require_root();
    let mut compared = 0;
    for tally in Tally::builtins().unwrap() {
        let object = Path::new(env!("OUT_DIR")).join(format!("{}.bpf.o", tally.name));
        let file = Tally::find(object.as_os_str()).unwrap();
        let Some(tags) = tags(&tally) else { continue };
        assert_eq!(Some(tags), self::tags(&file), "{}", tally.name);
        compared += 1;
    }
    assert!(compared > 10, "{compared}");
}

/// What the kernel made of the instructions of each program.
fn tags(tally: &Tally) -> Option<Vec<(OsString, [u8; 8])>> {
    let options = needed_options(tally);
    if !Support::probe().obstacles(tally).is_empty() {
        return None;
    }
    let session = Session::start(tally, &options, None).unwrap();
    let ids = session.program_ids().unwrap();
    let programs = ProgInfoIter::default().filter(|it| ids.contains(&it.id));
    let tags = programs.map(|it| (it.name, it.tag.0));
    let mut tags: Vec<_> = tags.collect();
    tags.sort();
    Some(tags)
}
