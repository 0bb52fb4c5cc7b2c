//! `make bench`: what counting, reading and starting cost, beside the peers
//! that are installed and beside the limit, as ratios measured in this run.
//! Rounds alternate between the subjects; each number is the median of its
//! rounds. With KTALLY_WRITE_DOCS it goes into docs/benchmarks.md as well.

#![allow(clippy::print_stdout)] // a benchmark's output is its tables

mod commands;
mod events;
mod export;
mod live;
mod measure;
mod programs;
mod reading;
mod sizes;
mod start;
mod subject;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use measure::Table;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Section = (&'static str, fn() -> Result<Vec<Table>>);
const SECTIONS: [Section; 9] = [
    ("events", events::section),
    ("programs", programs::section),
    ("tallies", programs::tallies),
    ("reading", reading::section),
    ("maps", commands::section),
    ("top", live::section),
    ("export", export::section),
    ("start", start::section),
    ("sizes", sizes::section),
];
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");

fn main() -> Result<()> {
    see_tracefs()?;
    // `make bench ARGS=reading` runs one of them.
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|it| !names.contains(&it.as_str())) {
        bail!(
            "there is no benchmark `{unknown}`; there are {}",
            names.join(", ")
        );
    }
    let mut page = format!("{}\n", machine()?);
    print!("{page}");
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            for table in section().with_context(|| format!("benchmark `{name}` failed"))? {
                println!("\n{table}");
                page += &format!("\n{table}\n");
            }
        }
    }
    match wanted.is_empty() && env::var_os("KTALLY_WRITE_DOCS").is_some() {
        true => write_into(Path::new(PAGE), &page),
        false => Ok(()),
    }
}

/// The peers want tracefs; this process alone gets to see it.
fn see_tracefs() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("the benchmarks need root")?;
    let mount_at =
        |fs: &str, path: &str, flags| mount(Some(fs), path, Some(fs), flags, None::<&str>);
    mount_at("none", "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    for (fs, path) in [
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
    ] {
        // Where it is there already, it is there.
        let _ = mount_at(fs, path, MsFlags::empty());
    }
    Ok(())
}

/// What the numbers were measured on, and with.
fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown CPU", |(_, model)| model);
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default();
    let mut versions = vec![format!("ktally {}", env!("CARGO_PKG_VERSION"))];
    for peer in ["bpftrace", "bpftool"] {
        if let Ok(output) = Command::new(peer).arg("--version").output() {
            let text = String::from_utf8_lossy(&output.stdout);
            versions.extend(text.lines().next().map(str::to_owned));
        }
    }
    Ok(format!(
        "{model}, {} CPUs, {} GiB; Linux {}; {}",
        cpus.matches("processor\t").count(),
        kib >> 20,
        ktally::host::kernel_release(),
        versions.join(", "),
    ))
}

/// Between the marks, where the page has them.
fn write_into(path: &Path, measured: &str) -> Result<()> {
    const MARKS: [&str; 2] = ["<!-- measured: -->\n", "<!-- :measured -->"];
    let page = fs::read_to_string(path)?;
    let around = page
        .split_once(MARKS[0])
        .and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let Some((before, after)) = around else {
        bail!("{} has no place for what was measured", path.display());
    };
    let page = format!("{before}{}\n{measured}\n{}{after}", MARKS[0], MARKS[1]);
    fs::write(path, page)?;
    Ok(())
}
