//! Files that are opened, and how long they take.

use std::ffi::{CStr, CString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use crate::support::{
    Cgroup, Child, Counted, fail_to_open, mount_new, needs, own_mounts, pin, run, work,
};

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// `openat`, or an error.
fn open(path: &CStr, flags: c_int) -> c_int {
    // SAFETY: the path lives.
    unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            0o600,
        ) as c_int
    }
}

fn close(fd: c_int) {
    // SAFETY: a descriptor that the caller has opened.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

fn open_and_close(times: u64, path: &CStr) {
    (0..times).for_each(|_| close(open(path, libc::O_RDONLY)));
}

/// A row of opens: its labels, how many, and how many of them failed.
fn assert_opens(counted: &Counted, labels: &[&str], numbers: [u64; 2]) {
    let row = counted.row(labels);
    assert_eq!(row.numbers(["opens", "errors"]), numbers, "{labels:?}");
}

#[test]
fn files_that_are_opened_by_process_and_path() {
    let cgroup = Cgroup::of_root("kt-opens");
    let first = Child::new("kt-opens", || {
        open_and_close(23, c"/proc/version");
        fail_to_open(37);
    });
    let second = Child::new("kt-opens-2", || {
        open_and_close(37, c"/proc/version");
        // As it is given: links and dots are not followed.
        open_and_close(23, c"/proc/./self/../version");
        open_and_close(5, c"/proc/version/x");
    });
    cgroup.take(&first);
    cgroup.take(&second);
    let filter = ("cgroup", cgroup.0.to_str().unwrap());
    let missing = "/no/such/file";

    let counted = run("opens", &[filter], || work(&[&first, &second]));
    assert_eq!(counted.rows().len(), 5, "{:?}", counted.rows());
    let opens = |labels: [&str; 2], numbers| assert_opens(&counted, &labels, numbers);
    opens(["kt-opens", "/proc/version"], [23, 0]);
    opens(["kt-opens", missing], [37, 37]);
    opens(["kt-opens-2", "/proc/version"], [37, 0]);
    opens(["kt-opens-2", "/proc/./self/../version"], [23, 0]);
    opens(["kt-opens-2", "/proc/version/x"], [5, 5]);

    let pid = second.pid();
    let split = [filter, ("by_error", "true"), ("by_pid", "true")];
    let counted = run("opens", &split, || work(&[&first, &second]));
    assert_eq!(counted.rows().len(), 5, "{:?}", counted.rows());
    let opens = |labels: [&str; 4], numbers| assert_opens(&counted, &labels, numbers);
    opens(["kt-opens", &first.pid(), missing, "ENOENT"], [37, 37]);
    opens(["kt-opens-2", &pid, "/proc/version", "0"], [37, 0]);
    opens(["kt-opens-2", &pid, "/proc/version/x", "ENOTDIR"], [5, 5]);
}

/// Of a path, 255 bytes are kept; what is longer ends in an ellipsis.
#[test]
fn every_call_that_opens_and_paths_that_are_long_or_none() {
    let path = |bytes: usize| CString::new("/".to_owned() + &"k".repeat(bytes - 1)).unwrap();
    let (fits, long) = (path(255), path(256));
    let how = [0u64; 3];
    let calls = || {
        open_and_close(23, &fits);
        open_and_close(37, &long);
        for _ in 0..5 {
            let size = size_of_val(&how);
            // SAFETY: the path and what is asked for live; 8 is no address.
            unsafe {
                let path = c"/proc/version".as_ptr();
                let fd = libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path, &how, size);
                close(fd as c_int);
                libc::syscall(libc::SYS_openat, libc::AT_FDCWD, 8, libc::O_RDONLY);
                #[cfg(target_arch = "x86_64")]
                {
                    close(libc::syscall(libc::SYS_open, path, libc::O_RDONLY) as c_int);
                    libc::syscall(libc::SYS_creat, c"/proc".as_ptr(), 0);
                }
            }
        }
    };
    let child = Child::new("kt-long", calls);
    let counted = run("opens", &[("pid", &child.pid())], || child.work());
    let opens = |path: &str, numbers| assert_opens(&counted, &["kt-long", path], numbers);
    opens(fits.to_str().unwrap(), [23, 23]);
    opens(&format!("{}…", &long.to_str().unwrap()[..252]), [37, 37]);
    opens("", [5, 5]);
    if cfg!(target_arch = "x86_64") {
        opens("/proc/version", [10, 0]);
        opens("/proc", [5, 5]);
    } else {
        opens("/proc/version", [5, 0]);
    }
}

/// Reads and writes 100 bytes this number of times, and syncs with 3 more calls.
fn use_file(path: &CStr, reads: u64, writes: u64) {
    let fd = open(path, libc::O_RDWR | libc::O_CREAT);
    let mut data = [7u8; 100];
    let all = data.as_mut_ptr();
    // SAFETY: a descriptor of ours, and as many bytes as the buffer has.
    unsafe {
        for _ in 0..writes {
            libc::syscall(libc::SYS_pwrite64, fd, all, 100, 0);
        }
        for _ in 0..reads {
            libc::syscall(libc::SYS_pread64, fd, all, 100, 0);
        }
        libc::syscall(libc::SYS_fsync, fd);
        libc::syscall(libc::SYS_fdatasync, fd);
        libc::syscall(libc::SYS_fsync, fd);
    }
    close(fd);
}

/// Uses files that are not in a mounted filesystem: a pipe and an eventfd.
fn use_others() {
    let (mut ends, mut data) = ([0; 2], [1u8; 8]);
    // SAFETY: descriptors of ours, and as many bytes as the buffer has.
    unsafe {
        libc::syscall(libc::SYS_pipe2, ends.as_mut_ptr(), 0);
        let event = libc::syscall(libc::SYS_eventfd2, 0, 0) as c_int;
        for [to, from] in [[ends[1], ends[0]], [event, event]] {
            libc::syscall(libc::SYS_write, to, data.as_ptr(), 8);
            libc::syscall(libc::SYS_read, from, data.as_mut_ptr(), 8);
        }
        [ends[0], ends[1], event].into_iter().for_each(close);
    }
}

const NUMBERS: [&str; 3] = ["calls", "errors", "bytes"];

fn assert_fsio(counted: &Counted, labels: &[&str], numbers: [u64; 3]) {
    let row = counted.row(labels);
    assert_eq!(row.numbers(NUMBERS), numbers, "{labels:?}");
    let (count, sum) = row.histogram("latency");
    assert_eq!([count, sum], [numbers[0], row.number("time")], "{labels:?}");
}

#[test]
fn files_by_filesystem_and_operation() {
    needs((5, 13), "task storage");
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    let test = || {
        own_mounts().unwrap();
        for (path, kind) in [(&one, "tmpfs"), (&other, "ramfs")] {
            std::fs::create_dir(path).unwrap();
            mount_new(kind, path, None).unwrap();
        }
        let (first, second) = (c_path(&one.join("a")), c_path(&other.join("b")));
        let child = Child::new("kt-fsio", || {
            use_file(&first, 23, 37);
            use_file(&second, 37, 23);
            use_others();
            fail_to_open(13);
            let folder = open(c"/proc", libc::O_RDONLY);
            // SAFETY: a folder is not read like this.
            unsafe { libc::syscall(libc::SYS_read, folder, [0u8; 8].as_mut_ptr(), 8) };
            close(folder);
        });
        let pid = child.pid();
        for split in [None, Some(("by_comm", "true"))] {
            let options = [Some(("pid", &*pid)), split];
            let options: Vec<_> = options.into_iter().flatten().collect();
            let counted = run("fsio", &options, || child.work());
            assert_eq!(counted.rows().len(), 11, "{:?}", counted.rows());
            let comm = split.map(|_| "kt-fsio");
            let fsio = |labels: [&str; 2], numbers| {
                let labels: Vec<_> = comm.into_iter().chain(labels).collect();
                assert_fsio(&counted, &labels, numbers);
            };
            fsio(["tmpfs", "open"], [1, 0, 0]);
            fsio(["tmpfs", "read"], [23, 0, 2300]);
            fsio(["tmpfs", "write"], [37, 0, 3700]);
            fsio(["tmpfs", "sync"], [3, 0, 0]);
            fsio(["ramfs", "open"], [1, 0, 0]);
            fsio(["ramfs", "read"], [37, 0, 3700]);
            fsio(["ramfs", "write"], [23, 0, 2300]);
            fsio(["ramfs", "sync"], [3, 0, 0]);
            fsio(["proc", "open"], [1, 0, 0]);
            fsio(["proc", "read"], [1, 1, 0]);
            fsio(["", "open"], [13, 13, 0]);
        }
    };
    thread::scope(|scope| scope.spawn(test).join()).unwrap();
}

/// A call that ends on another CPU has ended, too: the next one is not taken for it.
#[test]
fn files_of_one_cpu() {
    needs((5, 13), "task storage");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = c_path(file.path());
    let child = Child::new("kt-fsio-cpu", || {
        pin(1);
        use_file(&path, 1, 1);
        pin(0);
        use_others();
        fail_to_open(13);
    });
    let options = [("pid", &*child.pid()), ("cpu", "0")];
    let counted = run("fsio", &options, || child.work());
    assert_eq!(counted.rows().len(), 1, "{:?}", counted.rows());
    assert_fsio(&counted, &["", "open"], [13, 13, 0]);
}
