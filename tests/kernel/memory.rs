//! The tallies about memory: faults, the file cache, reclaim, and its end.

use std::ffi::{CString, c_int};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::exact::Cgroup;
use crate::support::{Child, run};

const PAGE: usize = 4096;

/// Fresh memory that is mapped page by page.
fn map(pages: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping that nobody else uses.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), pages * PAGE, access, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            libc::_exit(2);
        }
        libc::madvise(memory, pages * PAGE, libc::MADV_NOHUGEPAGE);
        memory.cast()
    }
}

// ---- faults -----------------------------------------------------------------

/// Touches fresh pages in each way: 23, 17, 13 and 11.
fn touch() {
    const PAGES: usize = 23 + 17 + 13 + 11;
    let memory = map(PAGES);
    let page = |i: usize| memory.wrapping_add(i * PAGE);
    // SAFETY: all within the mapping.
    unsafe {
        for i in 0..23 {
            page(i).read_volatile();
        }
        for i in 23..40 {
            page(i).write_volatile(1);
        }
        // The kernel reads an empty set of signals.
        for i in 40..53 {
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, page(i), 0, 8);
        }
        // And writes the present one.
        for i in 53..PAGES {
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, page(i), 8);
        }
        libc::munmap(memory.cast(), PAGES * PAGE);
    }
}

#[test]
fn page_faults_by_mode_and_access() {
    let child = Child::new("kt-faults", touch);
    let twin = Child::new("kt-faults", touch);
    // Code and stack come in with the first time.
    child.work();
    let counted = run("faults", &[("pid", &child.pid())], || {
        child.work();
        twin.work();
    });
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 4);
    for (mode, access, faults) in [
        ("user", "read", 23),
        ("user", "write", 17),
        ("kernel", "read", 13),
        ("kernel", "write", 11),
    ] {
        let row = counted.row(&["kt-faults", mode, access]);
        assert_eq!(row.number("faults"), faults, "{mode} {access}");
    }
}

// ---- files ------------------------------------------------------------------

/// A block device of a test's own, gone when dropped: its pages are in the file
/// cache like a file's, and no filesystem adds some of its own.
struct Disk {
    path: PathBuf,
    _device: File,
    _file: tempfile::TempPath,
}

/// include/uapi/linux/loop.h
const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Disk {
    fn new(pages: usize) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len((pages * PAGE) as u64).unwrap();
        let control = File::open("/dev/loop-control").expect("loop devices");
        // SAFETY: all zeroes is a configuration.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = file.as_file().as_raw_fd() as u32;
        config.info.flags = LO_FLAGS_AUTOCLEAR;
        loop {
            // SAFETY: no argument; then one that lives.
            let free = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            assert!(free >= 0, "{}", std::io::Error::last_os_error());
            let path = PathBuf::from(format!("/dev/loop{free}"));
            let device = File::options().read(true).write(true).open(&path).unwrap();
            // SAFETY: the kernel reads the configuration.
            match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } {
                0 => {
                    return Self {
                        path,
                        _device: device,
                        _file: file.into_temp_path(),
                    };
                }
                // Somebody else was faster.
                _ => assert_eq!(
                    std::io::Error::last_os_error().raw_os_error(),
                    Some(libc::EBUSY)
                ),
            }
        }
    }

    fn c_path(&self) -> CString {
        CString::new(self.path.as_os_str().as_bytes()).unwrap()
    }

    /// Whether a label means this device: by its name, or by its number as the
    /// kernel has it, of 12 and 20 bits.
    fn is(&self, label: &str) -> bool {
        let dev = fs::metadata(&self.path).unwrap().rdev();
        let number = libc::major(dev) << 20 | libc::minor(dev);
        label == number.to_string() || self.path.ends_with(label)
    }
}

fn open(path: &CString, flags: c_int) -> c_int {
    // SAFETY: a path that lives.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) as c_int }
}

#[test]
fn pages_of_the_file_cache_by_device() {
    const PAGES: usize = 23;
    static BYTES: [u8; PAGES * PAGE] = [7; PAGES * PAGE];
    let disk = Disk::new(PAGES);
    let path = disk.c_path();
    // In, changed twice, written, and out again.
    let write = || {
        let fd = open(&path, libc::O_WRONLY);
        let drop = libc::POSIX_FADV_DONTNEED;
        // SAFETY: the kernel reads bytes that live, and we close what is ours.
        unsafe {
            for _ in 0..2 {
                libc::syscall(libc::SYS_pwrite64, fd, BYTES.as_ptr(), BYTES.len(), 0);
            }
            libc::syscall(libc::SYS_fsync, fd);
            libc::syscall(libc::SYS_fadvise64, fd, 0, 0, drop);
            libc::syscall(libc::SYS_close, fd);
        }
    };
    let child = Child::new("kt-filecache", write);
    let twin = Child::new("kt-filecache", write);
    // Whatever looked at the new disk has left its pages.
    child.work();
    let counted = run("filecache", &[("pid", &child.pid())], || {
        child.work();
        twin.work();
    });
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1);
    let row = &counted.rows()[0];
    assert_eq!(row.labels[0], "kt-filecache");
    assert!(disk.is(&row.labels[1]), "{row:?}");
    for column in ["added", "evicted", "dirtied"] {
        assert_eq!(row.number(column), PAGES as u64, "{column}");
    }
}

/// Files in memory are no cache, and the kernel does not tell of their pages
/// that come.
#[test]
fn files_in_memory_are_not_in_the_file_cache() {
    const PAGES: usize = 23;
    // Not out of the test's own file, whose pages may have to be read.
    let bytes = vec![7u8; PAGES * PAGE];
    let child = Child::new("kt-memory-file", || {
        // SAFETY: a name and bytes that live; we close what is ours.
        unsafe {
            let fd = libc::syscall(libc::SYS_memfd_create, c"kt".as_ptr(), 0);
            let written = libc::syscall(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), 0);
            if written != bytes.len() as libc::c_long {
                libc::_exit(7);
            }
            libc::syscall(libc::SYS_ftruncate, fd, 0);
            libc::syscall(libc::SYS_close, fd);
        }
    });
    let counted = run("filecache", &[("pid", &child.pid())], || child.work());
    counted.assert_whole();
    assert!(counted.rows().is_empty(), "{:?}", counted.rows());
}

// ---- limits -----------------------------------------------------------------

/// A cgroup whose memory is limited. It is also in the unified hierarchy, which
/// is where tallies look, and which may or may not have the memory controller.
pub struct Limited {
    unified: Cgroup,
    memory: Option<Cgroup>,
}

impl Limited {
    pub fn new(name: &str, limit: usize) -> Self {
        let unified = Cgroup::of_root(name);
        let file = name.to_owned() + "-" + &std::process::id().to_string();
        let version1 = Path::new("/sys/fs/cgroup/memory");
        let memory = version1
            .join("memory.limit_in_bytes")
            .exists()
            .then(|| Cgroup::new(version1.to_owned(), &file));
        let limited = Self { unified, memory };
        let file = match &limited.memory {
            Some(memory) => memory.0.join("memory.limit_in_bytes"),
            None => {
                let root = limited.unified.0.parent().unwrap();
                fs::write(root.join("cgroup.subtree_control"), "+memory")
                    .expect("a memory controller");
                limited.unified.0.join("memory.max")
            }
        };
        fs::write(file, limit.to_string()).unwrap();
        limited
    }

    fn take(&self, child: &Child) {
        self.unified.take(child);
        if let Some(memory) = &self.memory {
            memory.take(child);
        }
    }

    /// Where it lies, in each hierarchy.
    pub fn folders(&self) -> String {
        let folders = [Some(&self.unified), self.memory.as_ref()];
        let paths = folders.into_iter().flatten();
        let paths: Vec<_> = paths.map(|it| it.0.to_str().unwrap()).collect();
        paths.join(" ")
    }

    /// How often it was at its limit; each time, something had to be freed.
    fn times_full(&self) -> u64 {
        match &self.memory {
            Some(memory) => fs::read_to_string(memory.0.join("memory.failcnt")).unwrap(),
            None => {
                let events = fs::read_to_string(self.unified.0.join("memory.events")).unwrap();
                let max = events.lines().find_map(|line| line.strip_prefix("max "));
                max.unwrap().to_owned()
            }
        }
        .trim()
        .parse()
        .unwrap()
    }
}

/// Reading a disk larger than the limit: what comes in must go out. The file
/// cache's tally, which is told page by page, says how much did.
#[test]
fn reclaims_at_a_limit_free_what_leaves_the_cache() {
    const LIMIT: usize = 8 << 20;
    let limited = Limited::new("kt-reclaim", LIMIT);
    let disk = Disk::new(4 * LIMIT / PAGE);
    let path = disk.c_path();
    let child = Child::new("kt-reclaim", || {
        let fd = open(&path, libc::O_RDONLY);
        let mut bytes = [0u8; PAGE];
        // SAFETY: the kernel writes bytes that are ours.
        unsafe {
            while libc::syscall(libc::SYS_read, fd, bytes.as_mut_ptr(), PAGE) > 0 {}
            libc::syscall(libc::SYS_close, fd);
        }
    });
    limited.take(&child);
    let pid = child.pid();
    let filter = [("pid", &*pid)];
    let mut cache = None;
    let counted = run("reclaim", &filter, || {
        cache = Some(run("filecache", &filter, || child.work()));
    });
    let cache = cache.unwrap();

    cache.assert_whole();
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1);
    let row = counted.row(&["kt-reclaim", "cgroup_limit"]);
    let (reclaims, time) = (row.number("reclaims"), row.number("time"));
    assert!(reclaims > 0 && reclaims <= limited.times_full());
    assert_eq!(row.histogram("latency"), (reclaims, time));
    assert!(time > 0);
    assert!(cache.sum("added") >= (4 * LIMIT / PAGE) as u64);
    assert_eq!(row.number("pages"), cache.sum("evicted"));
}

#[test]
fn victims_by_cgroup() {
    const LIMIT: usize = 8 << 20;
    let limited = Limited::new("kt-oom", LIMIT);
    let child = Child::new("kt-oom", || {
        for _ in 0..3 {
            // SAFETY: this is fork; the forked touches memory of its own,
            // locked so that it cannot be swapped out.
            unsafe {
                match libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) {
                    0 => {
                        libc::prctl(libc::PR_SET_NAME, c"kt-victim".as_ptr());
                        let memory = map(4 * LIMIT / PAGE);
                        let on_fault = 1;
                        libc::syscall(libc::SYS_mlock2, memory, 4 * LIMIT, on_fault);
                        for page in 0..4 * LIMIT / PAGE {
                            memory.add(page * PAGE).write_volatile(1);
                        }
                        libc::_exit(0);
                    }
                    _ => libc::syscall(libc::SYS_wait4, -1, 0, 0, 0),
                };
            }
        }
    });
    limited.take(&child);
    let filter = [("cgroup", limited.unified.0.to_str().unwrap())];
    let counted = run("oom", &filter, || child.work());
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1);
    let row = &counted.rows()[0];
    assert_eq!(row.labels[0], "kt-victim");
    assert!(limited.unified.is(&row.labels[1]), "{row:?}");
    assert_eq!(row.number("kills"), 3);
    // Before its cgroups.
    drop(child);
}
