//! Compiles a user's C file as the build compiles `src/bpf/`: the headers and
//! flags are part of this binary.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::code;
use super::headers::{self, Headers, VMLINUX};
use crate::error::usage;
use crate::host;
use crate::sys::log;
use crate::text::NEXT_LINE;

const FLAGS: &str = include_str!("../bpf/flags");

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "-D__TARGET_ARCH_x86";
/// Where Debian has the headers of an architecture, such as <asm/types.h>.
#[cfg(target_arch = "x86_64")]
const MULTIARCH: &str = "/usr/include/x86_64-linux-gnu";
#[cfg(target_arch = "aarch64")]
const MULTIARCH: &str = "/usr/include/aarch64-linux-gnu";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "-D__TARGET_ARCH_arm64";

/// Returns the object of a C file, or clang's error messages. SIGINT, SIGTERM and
/// SIGHUP end clang and, after the folder is removed, this process.
pub(super) fn compile(source: &Path, flags: &[OsString]) -> Result<Vec<u8>> {
    let shown = source.display();
    let text =
        fs::read(source).map_err(|error| usage(format!("failed to read `{shown}`: {error}")))?;
    // Declared before the folder, so dropped after it.
    let signals = Held::hold()?;
    // Other users must not be able to change what is compiled, whatever the umask.
    let folder = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .with_context(|| {
            format!("failed to compile `{shown}`: no room for it; point TMPDIR at a folder that can be written to")
        })?;
    let headers = Headers::new(folder.path());
    let (unlinked, linked) = (
        folder.path().join("unlinked.o"),
        folder.path().join("linked.o"),
    );
    let mut clang = Clang {
        source,
        flags,
        folders: vec![headers.own()?],
        signals: &signals,
    };
    // It is large, and a header may ask for it, which only clang knows.
    let mut is_asked = String::from_utf8_lossy(&text).contains(VMLINUX);
    loop {
        if is_asked {
            clang.folders.push(headers.vmlinux()?);
        }
        match clang.run(&unlinked)? {
            Ok(()) => break,
            Err(messages) if !is_asked && messages.contains("'vmlinux.h' file not found") => {
                is_asked = true;
            }
            Err(messages) => {
                let hint = hint(&messages);
                let messages = messages.replace('\n', NEXT_LINE);
                bail!("failed to compile `{shown}`:{NEXT_LINE}{messages}{hint}");
            }
        }
    }
    let object = fs::read(&unlinked)?;
    if !code::has_btf(&object) {
        bail!(
            "failed to compile `{shown}`: its object has no BTF, which says what its maps hold; compile it with -g"
        );
    }
    // As the build does: linking fills in offsets and strips debug information.
    let mut linker = libbpf_rs::Linker::new(&linked)?;
    linker.add_file(&unlinked)?;
    linker
        .link()
        .with_context(|| format!("failed to link `{shown}`"))?;
    fs::read(&linked).with_context(|| format!("failed to read the object of `{shown}`"))
}

/// Writes all headers into a folder below this one. Returns the flags with which clang
/// finds them.
pub(crate) fn write_headers(folder: &Path) -> Result<Vec<String>> {
    let headers = folder.join("ktally-headers");
    headers::write_own(&headers)?;
    headers::write_vmlinux(&headers)?;
    let flags = own_flags().map(str::to_owned);
    let flags = flags.chain([format!("-I{}", headers.display())]);
    Ok(flags.chain(multiarch()).collect())
}

/// The flags of ktally. Warnings are not errors: users' files are not held to the rules of
/// `src/bpf/`.
fn own_flags() -> impl Iterator<Item = &'static str> {
    let of_build = FLAGS.split_whitespace().filter(|flag| *flag != "-Werror");
    ["-target", "bpf", ARCH].into_iter().chain(of_build)
}

/// The flag with which clang finds the headers of an architecture.
fn multiarch() -> Option<String> {
    let is_there = Path::new(MULTIARCH).is_dir();
    is_there.then(|| format!("-idirafter{MULTIARCH}"))
}

/// How clang is called.
struct Clang<'c> {
    source: &'c Path,
    /// Of the user.
    flags: &'c [OsString],
    /// Of headers.
    folders: Vec<PathBuf>,
    signals: &'c Held,
}

impl Clang<'_> {
    /// Compiles; the inner error is what clang says about the source.
    fn run(&self, object: &Path) -> Result<Result<(), String>> {
        let failed = format!("failed to compile `{}`", self.source.display());
        let mut clang = host::clang().with_context(|| failed.clone())?;
        clang
            .args(["-O2", "-g", "-fno-stack-protector"])
            // Otherwise a failure leaves the preprocessed source behind.
            .arg("-fno-crash-diagnostics")
            .args(own_flags())
            .args(self.flags);
        for folder in &self.folders {
            clang.arg("-I").arg(folder);
        }
        clang
            .args(multiarch())
            .arg("-c")
            .arg(self.source)
            .arg("-o")
            .arg(object);
        clang.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut clang = clang.spawn().map_err(|error| {
            anyhow!("{failed}: clang does not run ({error}); install the package `clang`, or point CLANG at one; `ktally build` on a host with clang makes an object that needs none")
        })?;
        let messages = self.signals.read_to_end(&mut clang);
        if messages.is_err() {
            clang.kill()?;
        }
        let status = clang.wait()?;
        let messages = messages.with_context(|| failed.clone())?;
        let messages = without_stack_dump(messages.trim_end());
        if status.success() {
            log::detail(messages);
            return Ok(Ok(()));
        }
        Ok(Err(messages.to_owned()))
    }
}

/// The way out of an error of clang, where there is a known one.
fn hint(messages: &str) -> String {
    let hints = [
        (
            "BPF stack limit",
            "the BPF stack has 512 bytes: build large keys in a CPU_STATE()",
        ),
        (
            "no member named",
            "kernel.h has few members of the kernel's types: include \"vmlinux.h\" before ktally.bpf.h, or declare a flavour of the struct with that member, such as struct task_struct___mine",
        ),
        (
            "incomplete definition of type",
            "kernel.h has few of the kernel's types: include \"vmlinux.h\" before ktally.bpf.h",
        ),
        (
            "unknown type name",
            "kernel.h has few of the kernel's types: include \"vmlinux.h\" before ktally.bpf.h",
        ),
        (
            "asm/types.h' file not found",
            "install the headers of the C library (Debian, Ubuntu: linux-libc-dev)",
        ),
    ];
    let found = hints.iter().find(|(words, _)| messages.contains(words));
    found.map_or_else(String::new, |(_, hint)| format!("{NEXT_LINE}{hint}"))
}

/// When clang's back end fails, it prints some 70 lines of its state around the error.
fn without_stack_dump(messages: &str) -> &str {
    let mut errors = messages.lines().filter(|line| line.contains("error: "));
    match errors.next() {
        Some(first) if messages.contains("Stack dump:") => first,
        _ => messages,
    }
}

/// Signals that would end this process, held back until this is dropped.
struct Held {
    came: SignalFd,
    before: SigSet,
}

impl Held {
    fn hold() -> Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let before = signals
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .context("failed to block SIGINT, SIGTERM and SIGHUP")?;
        // Not read: what is pending takes effect when it is unblocked.
        let came = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
            .context("failed to open a signal descriptor")?;
        Ok(Self { came, before })
    }

    /// Reads a child's stderr to its end. A signal makes it an error.
    fn read_to_end(&self, child: &mut Child) -> Result<String> {
        let mut written = Vec::new();
        let Some(stderr) = &mut child.stderr else {
            return Ok(String::new());
        };
        loop {
            let mut fds =
                [self.came.as_fd(), stderr.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                ready => ready?,
            };
            if fds[0].any() == Some(true) {
                bail!("interrupted by a signal");
            }
            let mut chunk = [0; 4096];
            match stderr.read(&mut chunk)? {
                0 => return Ok(String::from_utf8_lossy(&written).into_owned()),
                read => written.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}
