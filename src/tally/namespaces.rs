//! The namespaces that ktally runs in, and what they change.

use std::mem::MaybeUninit;
use std::process;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ProgramInput, ProgramMut};

use super::catalogue::Tally;
use super::options::ResolvedOption;
use crate::host::{self, Fact};
use crate::internal::namespaces::{NamespacesSkelBuilder, types};
use crate::sys::log;

/// `struct tally_pid_namespace` of `ktally.bpf.h`, if the tally uses it and ktally is
/// not in the kernel's own PID namespace.
pub(super) fn pids(tally: &Tally) -> Result<Option<ResolvedOption>> {
    let Some(place) = &tally.schema.pids else {
        return Ok(None);
    };
    if host::is_in_first_pid_namespace() {
        return Ok(None);
    }
    let found = look().context("failed to look at the PID namespace")?;
    let words = [found.pid_level, found.here.pid];
    Ok(Some(ResolvedOption {
        offset: place.bit_offset / 8,
        bytes: words.map(u32::to_ne_bytes).concat(),
    }))
}

const PID: &str =
    "--pid and rows have its numbers; events of processes outside are counted, with number 0";
const PID_AND_OTHER_PROC: &str = "--pid and rows have its numbers, but /proc has those of another, so processes and stacks \
     have no names: mount -t proc proc /proc";
const MOUNT: &str = "paths of options and files of stacks are those seen here; `attach` pins where its bpffs is \
     mounted, which others may not see";
const NETWORK: &str = "tallies count all network namespaces, and name interfaces as this one does; for this one \
     alone: --netns /proc/self/ns/net";
const CGROUP: &str = "a path starts at its root, and a cgroup outside is shown by its number";

/// What each kind of namespace changes, where it is not the kernel's own.
pub(crate) fn namespace_facts() -> Vec<Fact> {
    let found = match look() {
        Ok(found) => found,
        Err(error) => {
            let found = format!("not known: {error:#}");
            return vec![Fact::bad("namespaces", found, "run ktally as root")];
        }
    };
    let (here, first) = (found.here, found.first);
    let pid = match host::process_folder(process::id()) {
        Some(_) => PID,
        None => PID_AND_OTHER_PROC,
    };
    [
        ("PID namespace", here.pid, first.pid, pid),
        ("mount namespace", here.mnt, first.mnt, MOUNT),
        ("network namespace", here.net, first.net, NETWORK),
        ("cgroup namespace", here.cgroup, first.cgroup, CGROUP),
    ]
    .map(|(name, here, first, change)| {
        if here == first {
            Fact::good(name, "the kernel's own")
        } else {
            Fact::bad(name, "not the kernel's own", change)
        }
    })
    .into()
}

fn look() -> Result<types::bss> {
    log::listen();
    let mut storage = MaybeUninit::uninit();
    let opened = NamespacesSkelBuilder::default().open(&mut storage)?;
    let loaded = opened
        .load()
        .map_err(|error| anyhow!("{error}{}", log::tail()))?;
    ProgramMut::test_run(&loaded.progs.namespaces, ProgramInput::default())?;
    let found = loaded.maps.bss_data.as_deref();
    found.copied().context("the helper has no .bss")
}
