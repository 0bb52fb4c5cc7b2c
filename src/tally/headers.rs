//! The headers that C files include: those of ktally and of libbpf, which are part of this
//! binary, and the types of the running kernel.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::libbpf_sys;

use crate::error::unknown;
use crate::host;
use crate::internal::unpack;
use crate::schema::KernelBtf;

// `HEADERS`: the name and packed text of every header of `src/bpf/`.
include!(concat!(env!("OUT_DIR"), "/headers.rs"));

/// The header of all types of the kernel.
pub(super) const VMLINUX: &str = "vmlinux.h";

/// The C files to start from: the name and the text.
const TEMPLATES: [(&str, &str); 5] = [
    ("counter", include_str!("../bpf/templates/counter.bpf.c")),
    (
        "histogram",
        include_str!("../bpf/templates/histogram.bpf.c"),
    ),
    ("interval", include_str!("../bpf/templates/interval.bpf.c")),
    ("stack", include_str!("../bpf/templates/stack.bpf.c")),
    ("uprobe", include_str!("../bpf/templates/uprobe.bpf.c")),
];

/// The C files that `ktally new` can make.
pub(crate) fn template_names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(name, _)| *name)
}

/// The text of one of them.
pub(crate) fn template(name: &str) -> Result<&'static str> {
    let found = TEMPLATES.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| unknown("template", name, template_names()))?;
    Ok(text)
}

/// Folders of headers. A cache keeps them, so that the paths in error messages still
/// exist. Without a cache they are in this temporary folder.
pub(super) struct Headers<'t> {
    temporary: &'t Path,
    cache: Option<PathBuf>,
}

impl<'t> Headers<'t> {
    pub(super) fn new(temporary: &'t Path) -> Self {
        let cache = host::cache_folder();
        Self { temporary, cache }
    }

    /// The headers of ktally and libbpf.
    pub(super) fn own(&self) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        (HEADERS, &libbpf_sys::API_HEADERS[..]).hash(&mut hasher);
        let name = format!("headers-{:016x}", hasher.finish());
        self.folder(&name, write_own)
    }

    /// The types of the running kernel, as `vmlinux.h`.
    pub(super) fn vmlinux(&self) -> Result<PathBuf> {
        let id = host::kernel_build_id().unwrap_or_else(|_| host::kernel_release());
        self.folder(&format!("vmlinux-{id}"), write_vmlinux)
    }

    /// A folder of this name, which one rename puts in place.
    fn folder(&self, name: &str, write: fn(&Path) -> Result<()>) -> Result<PathBuf> {
        let made = self.cache.as_ref().map(|cache| cached(cache, name, write));
        match made {
            Some(Ok(folder)) => Ok(folder),
            // The disk may be full.
            _ => {
                let folder = self.temporary.join(name);
                fs::create_dir(&folder)?;
                write(&folder)?;
                Ok(folder)
            }
        }
    }
}

fn cached(cache: &Path, name: &str, write: fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache.join(name);
    if !folder.is_dir() {
        let new = tempfile::tempdir_in(cache)?;
        write(new.path())?;
        // Another process may have been faster.
        if fs::rename(new.path(), &folder).is_ok() {
            let _ = new.keep();
        }
    }
    anyhow::ensure!(host::is_ours(&folder), "others can write to it");
    Ok(folder)
}

/// Writes the headers of ktally and libbpf into a folder.
pub(super) fn write_own(folder: &Path) -> Result<()> {
    let bpf = folder.join("bpf");
    fs::create_dir_all(&bpf)?;
    let write = |path: PathBuf, text: &[u8]| {
        fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))
    };
    for (name, packed) in HEADERS {
        write(folder.join(name), &unpack(packed))?;
    }
    for (name, text) in libbpf_sys::API_HEADERS {
        write(bpf.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Writes the types of the running kernel into a folder.
pub(super) fn write_vmlinux(folder: &Path) -> Result<()> {
    let path = folder.join(VMLINUX);
    let header = KernelBtf::load()?.as_c_header()?;
    fs::write(&path, header).with_context(|| format!("failed to write `{}`", path.display()))
}
