//! C files of a test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ktally::tally::Tally;
use libbpf_rs::libbpf_sys;

/// For C: numbers of system calls, and a call's first argument. The same text
/// for every architecture, as guests find objects by their source.
pub const CALLS: &str = "
#if defined(__TARGET_ARCH_x86)
#define NR_getppid 110
#define NR_getpriority 140
#define argument(regs) ((regs)->di)
#else
#define NR_getppid 173
#define NR_getpriority 141
#define argument(regs) ((regs)->regs[0])
#endif
";

/// The first of the numbers by which [`event`](crate::support::event) calls:
/// above all kinds of priorities.
pub const FIRST_EVENT: u64 = 1000;

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "-D__TARGET_ARCH_x86";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "-D__TARGET_ARCH_arm64";

/// A file that every user can read, in a folder of its own; gone when dropped.
pub struct Source {
    folder: tempfile::TempDir,
    name: String,
}

impl Source {
    /// Of these contents.
    pub fn file(name: &str, contents: impl AsRef<[u8]>) -> Self {
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir();
        let (folder, name) = (folder.unwrap(), name.to_owned());
        fs::write(folder.path().join(&name), contents).unwrap();
        Self { folder, name }
    }

    /// A tally of this program. Its events are those of the tests' children:
    /// `is_event(regs, id)` in `tp_btf/sys_enter`, and `number(regs)`.
    pub fn new(program: &str) -> Self {
        let prelude = format!(
            r#"#include "ktally.bpf.h"
{CALLS}
OPTION(pid_t, pid, 0, "count only this process");
#define number(regs) (argument(regs) - {FIRST_EVENT})
#define is_event(regs, id) ((id) == NR_getpriority && wanted_task())
"#
        );
        Self::file("test.bpf.c", prelude + program)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Its path as an argument.
    pub fn arg(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    pub fn find(&self) -> Result<Tally> {
        Tally::find(self.path().as_os_str())
    }

    /// The object that clang makes of it, with the headers of ktally and of libbpf.
    pub fn compile(&self) -> Vec<u8> {
        let headers = self.folder.path().join("bpf");
        fs::create_dir(&headers).unwrap();
        for (name, text) in libbpf_sys::API_HEADERS {
            fs::write(headers.join(name), text).unwrap();
        }
        let object = self.folder.path().join("test.bpf.o");
        let mut clang = ktally::host::clang();
        clang
            .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", ARCH, "-c", "-I"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf"))
            .arg("-I")
            .arg(self.folder.path())
            .arg(self.path())
            .arg("-o")
            .arg(&object);
        super::end(&mut clang).done();
        fs::read(&object).unwrap()
    }
}
