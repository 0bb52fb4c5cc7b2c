//! Compiles a user's C file as the build compiles `src/bpf/`: the headers and
//! flags are part of this binary.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::libbpf_sys;

use crate::error::usage;
use crate::host;
use crate::schema::KernelBtf;

// `HEADERS`: every header of `src/bpf/`, a name and a text each.
include!(concat!(env!("OUT_DIR"), "/headers.rs"));
const FLAGS: &str = include_str!("../bpf/flags");

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "-D__TARGET_ARCH_x86";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "-D__TARGET_ARCH_arm64";

/// The object of a C file; clang's own words where it has an error.
pub(super) fn compile(source: &Path) -> Result<Vec<u8>> {
    let shown = source.display();
    let text =
        fs::read(source).map_err(|error| usage(format!("failed to read `{shown}`: {error}")))?;
    let folder = tempfile::tempdir().with_context(|| {
        format!("failed to compile `{shown}`: no room for it; point TMPDIR at a folder that can be written to")
    })?;
    let include = folder.path();
    let bpf = include.join("bpf");
    fs::create_dir(&bpf)?;
    for (name, text) in HEADERS {
        fs::write(include.join(name), text)?;
    }
    for (name, text) in libbpf_sys::API_HEADERS {
        fs::write(bpf.join(name), text)?;
    }
    // Large and slow to write, and few need it.
    if String::from_utf8_lossy(&text).contains("\"vmlinux.h\"") {
        let header = KernelBtf::load()?.as_c_header()?;
        fs::write(include.join("vmlinux.h"), header)?;
    }
    let unlinked = include.join("unlinked.o");
    let output = host::clang()
        .args(["-O2", "-g", "-target", "bpf", "-fno-stack-protector", ARCH])
        .args(FLAGS.split_whitespace())
        .arg("-I")
        .arg(include)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&unlinked)
        .output()
        .map_err(|error| {
            anyhow!("failed to compile `{shown}`: clang does not run ({error}); install the package `clang`, or point CLANG at one")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("failed to compile `{shown}`:\n{}", said.trim_end());
    }
    // As the build does: linking fills in offsets and strips debug information.
    let linked = include.join("linked.o");
    let mut linker = libbpf_rs::Linker::new(&linked)?;
    linker.add_file(&unlinked)?;
    linker
        .link()
        .with_context(|| format!("failed to link `{shown}`"))?;
    fs::read(&linked).with_context(|| format!("failed to read the object of `{shown}`"))
}
