//! C files of a test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// For the C of tallies that count the events of children. `EVENT(name, number)
/// { ... }` is a program that runs for each event with its number; `hit(table,
/// key)` adds 1 in a table of `struct hits`.
pub const EVENTS: &str = r#"
OPTION(pid_t, pid, 0, "count only this process");
#define number(regs) (argument(regs) - 1000)
#define is_event(regs, id) ((id) == NR_getpriority && wanted_task())
#define EVENT(name, number_)                                           \
	static __always_inline void on_##name(__u64 number_);          \
	SEC("tp_btf/sys_enter")                                        \
	int BPF_PROG(name, struct pt_regs *regs, long id)              \
	{                                                              \
		if (is_event(regs, id))                                \
			on_##name(number(regs));                       \
		return 0;                                              \
	}                                                              \
	static __always_inline void on_##name(__u64 number_)
struct hits {
	__u64 count COUNTER("");
};
#define hits_of(table, key, n)                                         \
	({                                                             \
		struct hits *row_ = tally_entry(table, key);           \
		__sync_fetch_and_add(&row_->count, n);                 \
	})
#define hit(table, key) hits_of(table, key, 1)
"#;

/// For the C of maps: a map of these types.
pub const MAPS: &str = r#"
#define MAP(type_, entries, key_, value_, name_)                       \
	struct {                                                       \
		__uint(type, BPF_MAP_TYPE_##type_);                    \
		__uint(max_entries, entries);                          \
		__type(key, key_);                                     \
		__type(value, value_);                                 \
	} name_ SEC(".maps")
"#;

/// The first of the numbers by which [`event`](crate::support::event) calls:
/// above all kinds of priorities.
pub const FIRST_EVENT: u64 = 1000;

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "x86";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "arm64";

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

    /// A tally that counts the events of children: see [`EVENTS`].
    pub fn new(program: &str) -> Self {
        Self::tally("test", program)
    }

    /// The same, of this name.
    pub fn tally(name: &str, program: &str) -> Self {
        let text = ["#include \"ktally.bpf.h\"", CALLS, EVENTS, program].concat();
        Self::file(&format!("{name}.bpf.c"), text)
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
        let object = self.folder.path().join("test.bpf.o");
        let mut clang = clang(ARCH, self.folder.path());
        clang.arg("-c").arg(self.path()).arg("-o").arg(&object);
        super::end(&mut clang).done();
        fs::read(&object).unwrap()
    }
}

/// clang for an architecture, with the headers of ktally, and of libbpf in this
/// folder.
pub fn clang(arch: &str, folder: &Path) -> Command {
    let headers = folder.join("bpf");
    fs::create_dir_all(&headers).unwrap();
    for (name, text) in libbpf_sys::API_HEADERS {
        fs::write(headers.join(name), text).unwrap();
    }
    let mut clang = ktally::host::clang().unwrap();
    clang
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf"))
        .arg("-I")
        .arg(folder);
    clang
}
