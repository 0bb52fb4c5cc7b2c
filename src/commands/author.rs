//! `ktally new`, `build` and `headers`: for those who write C files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::{note, output};
use crate::cli::{BuildArgs, Exit, Global, HeadersArgs, LintArgs, NewArgs};
use crate::error::usage;
use crate::tally::{Tally, template, write_headers};
use crate::text::escape;

/// Writes a C file that runs at once.
pub(super) fn new(args: &NewArgs) -> Result<Exit> {
    let name = args.name.strip_suffix(".bpf.c").unwrap_or(&args.name);
    let base = Path::new(name)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if base.is_empty() || !base.chars().all(is_word) {
        return Err(usage(format!(
            "`{name}` is not a name for a tally: write letters, digits, `_` and `-`"
        )));
    }
    let path = format!("{name}.bpf.c");
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.with_context(|| format!("failed to make `{path}`"))?;
    file.write_all(template(&args.template)?.as_bytes())
        .with_context(|| format!("failed to write `{path}`"))?;
    let dot = if path.contains('/') { "" } else { "./" };
    note(&format!(
        "made `{path}`: try `ktally run {dot}{path} --for 2s`"
    ));
    Ok(Exit::Done)
}

/// Writes the object of a C file, for hosts without clang.
pub(super) fn build(global: &Global, args: &BuildArgs) -> Result<Exit> {
    let object = Tally::compile(&args.file, &args.compile.flags())?;
    if global.output_file.is_none() {
        return Err(usage("say where the object goes: -o NAME.bpf.o"));
    }
    let written = output::out().write_all(&object);
    written.context("failed to write the object")?;
    Ok(Exit::Done)
}

/// Writes the headers of C files into a folder, and what editors need to find them.
pub(super) fn headers(args: &HeadersArgs) -> Result<Exit> {
    let made = fs::create_dir_all(&args.folder);
    made.with_context(|| format!("failed to make `{}`", args.folder.display()))?;
    let folder = fs::canonicalize(&args.folder)?;
    let flags = write_headers(&folder)?;
    let settings = folder.join(".clangd");
    let lines: Vec<String> = flags
        .iter()
        .map(|flag| format!("    - {flag:?}\n"))
        .collect();
    let text = format!("CompileFlags:\n  Add:\n{}", lines.concat());
    fs::write(&settings, text)
        .with_context(|| format!("failed to write `{}`", settings.display()))?;
    note(&format!(
        "wrote the headers and `.clangd` into `{}`: clangd completes C files in it and below",
        folder.display()
    ));
    Ok(Exit::Done)
}

/// Prints what is worth another look. The exit code is 1 if there is something.
pub(super) fn lint(args: &LintArgs) -> Result<Exit> {
    let tally = Tally::find_with(args.file.as_os_str(), &args.compile.flags())?;
    let findings = tally.lint();
    let out = &mut output::out();
    for finding in &findings {
        writeln!(out, "{}: {}", args.file.display(), escape(finding))?;
    }
    match findings.len() {
        0 => note("nothing to mend"),
        _ => return Ok(Exit::Failed),
    }
    Ok(Exit::Done)
}
