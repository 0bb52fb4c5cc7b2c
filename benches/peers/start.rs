//! From start to the first count, and to the end.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::measure::{Rounds, Table, alternate, ratio, seconds};
use super::subject::{BPFTRACE_COUNT, KTALLY};

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
    Ok(vec![table.note(note)])
}
