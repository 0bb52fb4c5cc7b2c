//! From start to the first count, and to the end; and what of it is loading.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::Result;
use ktally::tally::{Session, Tally, resolve};

use super::measure::{Rounds, Table, alternate, ratio, seconds};
use super::subject::{BPFTRACE_COUNT, KTALLY, tally};

/// Those of libbpf-tools and bcc count for a second at least, which is taken off.
struct Subject {
    name: &'static str,
    program: &'static str,
    args: Vec<String>,
    counts_for: f64,
}

pub fn section() -> Result<Vec<Table>> {
    let subject = |name, program, args: &[&str], counts_for| Subject {
        name,
        program,
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        counts_for,
    };
    let script = format!("{BPFTRACE_COUNT} BEGIN {{ exit(); }}");
    let subjects = [
        subject(
            "ktally run failures --for 0",
            KTALLY,
            &["run", "failures", "--for", "0"],
            0.0,
        ),
        subject(
            "ktally run syscalls --for 0",
            KTALLY,
            &["run", "syscalls", "--for", "0"],
            0.0,
        ),
        subject(
            "ktally count sys_enter --by comm --for 0",
            KTALLY,
            &["count", "sys_enter", "--by", "comm", "--for", "0"],
            0.0,
        ),
        subject(
            "bpftrace @[comm] = count()",
            "bpftrace",
            &["-e", &script],
            0.0,
        ),
        subject("libbpf-tools syscount", "syscount", &["-d", "1"], 1.0),
        subject(
            "bcc syscount, compiled at its start",
            "syscount-bpfcc",
            &["-d", "1"],
            1.0,
        ),
    ];
    let mut reasons = vec![String::new(); subjects.len()];
    let indices: Vec<usize> = (0..subjects.len()).collect();
    let rounds = alternate(&indices, |&i| {
        let subject = &subjects[i];
        let mut command = Command::new(subject.program);
        command.args(&subject.args).stdin(Stdio::null());
        let mut output = None;
        let time = seconds(|| {
            output = command.output().ok();
            Ok(())
        })?;
        let Some(output) = output else {
            reasons[i] = "not installed".into();
            return Ok(None);
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default();
            reasons[i] = format!("does not run here: {last}");
            return Ok(None);
        }
        Ok(Some(vec![(time - subject.counts_for) * 1e3]))
    })?;
    let median = |i: usize| rounds[i].first().and_then(Rounds::median);
    let mut table = Table::new(
        "From start over the first count to the end: ms",
        &["command", "ms", "times ktally's"],
    );
    for (i, subject) in subjects.iter().enumerate() {
        match rounds[i].first() {
            Some(rounds) => table.row([
                subject.name.to_owned(),
                rounds.show(0),
                ratio(median(i), median(0), 1),
            ]),
            None => table.row([subject.name, &reasons[i]]),
        }
    }
    let note = "Where a peer counts for a second at least, that second is taken off.";
    Ok(vec![table.note(note), loading()?])
}

/// Tallies beside one that does nothing, and those that keep the starts of tasks
/// beside themselves without the iterator that reads these.
fn loading() -> Result<Table> {
    let mut tallies = vec![(
        "one that does nothing".to_owned(),
        tally("nothing", "TABLE(calls, __u32, struct n, 64, \"\");", "")?,
    )];
    for name in ["failures", "cputime", "syscalls", "offcpu"] {
        tallies.push((name.to_owned(), Tally::find(name.as_ref())?));
        if let Some(tally) = without_iterator(name)? {
            tallies.push((format!("{name}, no iterator"), tally));
        }
    }
    let load = |(_, tally): &(String, Tally)| {
        let mut verified = Vec::new();
        let time = seconds(|| {
            verified = Session::verify(tally, &resolve(&tally.schema.options, &[])?)?;
            Ok(())
        })?;
        let verified: u32 = verified.iter().map(|(_, instructions)| instructions).sum();
        Ok(Some(vec![f64::from(verified), time * 1e3]))
    };
    let rounds = alternate(&tallies, load)?;
    let median = |i: usize, n: usize| rounds[i].get(n).and_then(Rounds::median);
    let mut table = Table::new(
        "From an open tally to a loaded one: ms",
        &["tally", "instructions verified", "ms", "times nothing"],
    );
    for (i, (name, _)) in tallies.iter().enumerate() {
        let verified = median(i, 0).unwrap_or_default();
        let times = ratio(median(i, 1), median(0, 1), 1);
        table.row([
            name.clone(),
            format!("{verified:.0}"),
            rounds[i][1].show(1),
            times,
        ]);
    }
    Ok(table.note("The iterator reads what is under way of each task."))
}

/// The tally without what it says of its starts; `None` if it has none of tasks.
fn without_iterator(name: &str) -> Result<Option<Tally>> {
    let path = format!("{}/src/bpf/{name}.bpf.c", env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(path)?;
    let state = source.lines().find(|line| line.starts_with("TASK_STATE("));
    let Some((state, under_way)) = state.and_then(|line| line.split_once(" UNDER_WAY")) else {
        return Ok(None);
    };
    let source = source.replace(
        &format!("{state} UNDER_WAY{under_way}"),
        &format!("{state};"),
    );
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(format!("{name}.bpf.c"));
    fs::write(&path, source)?;
    Ok(Some(Tally::find(path.as_os_str())?))
}
