//! The tallies about memory: faults, the file cache, reclaim, and its end.

use std::collections::BTreeSet;
use std::ffi::{CString, c_int};

use crate::support::{Child, Disk, Limited, clone, count, fork, reap, rename, run, work};

const PAGE: usize = 4096;

/// Fresh memory that is mapped page by page.
fn map(pages: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping that no other code uses.
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
        work(&[&child, &twin]);
    });
    // In all of them the kernel had a page to map.
    let resolved = &counted.reading.tables[1];
    assert_eq!(resolved.rows.len(), 1);
    assert_eq!(resolved.rows.cells(0), [23 + 17 + 13 + 11, 0]);
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

/// Pages of a disk that have to be read: 23 of them, and then they are there.
#[test]
fn major_faults_wait_for_the_disk() {
    let disk = Disk::new(1 << 20);
    let child = Child::new("kt-major", || {
        use std::os::fd::AsRawFd;
        let file = disk.open();
        let (fd, size) = (file.as_raw_fd(), 23 * PAGE);
        // SAFETY: a new mapping that no other code uses; all within it.
        unsafe {
            libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED);
            for _ in 0..2 {
                let (access, flags) = (libc::PROT_READ, libc::MAP_SHARED);
                let memory = libc::mmap(std::ptr::null_mut(), size, access, flags, fd, 0);
                libc::madvise(memory, size, libc::MADV_RANDOM);
                for page in 0..23 {
                    memory.cast::<u8>().add(page * PAGE).read_volatile();
                }
                libc::munmap(memory, size);
            }
        }
    });
    // Code and stack come in with the first time.
    child.work();
    let counted = run("faults", &[("pid", &child.pid())], || child.work());
    let faults: u64 = counted.rows().iter().map(|it| it.number("faults")).sum();
    let resolved = &counted.reading.tables[1].rows;
    let [minor, major] = resolved.cells(0) else {
        panic!("{resolved:?}");
    };
    assert_eq!((*major, major + minor), (23, faults));
}

// ---- files ------------------------------------------------------------------

fn open(path: &CString, flags: c_int) -> c_int {
    // SAFETY: a path that lives.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) as c_int }
}

#[test]
fn pages_of_the_file_cache_by_device() {
    const PAGES: usize = 23;
    static BYTES: [u8; PAGES * PAGE] = [7; PAGES * PAGE];
    let disk = Disk::new((PAGES * PAGE) as u64);
    // The kernel drops the pages when the last file of the device is closed.
    let (_open, path) = (disk.open(), disk.c_path());
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
        work(&[&child, &twin]);
    });
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
    let counted = count("filecache", &child, &[]);
    assert!(counted.rows().is_empty(), "{:?}", counted.rows());
}

// ---- limits -----------------------------------------------------------------

/// Reading a disk larger than the limit: what comes in must go out. The file
/// cache's tally, which is told page by page, says how much did.
#[test]
fn reclaims_at_a_limit_free_what_leaves_the_cache() {
    const LIMIT: usize = 8 << 20;
    let limited = Limited::new("kt-reclaim", LIMIT);
    let disk = Disk::new(4 * LIMIT as u64);
    // The kernel drops the pages when the last file of the device is closed.
    let (_open, path) = (disk.open(), disk.c_path());
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
    let mut cache = None;
    let counted = run("reclaim", &[("pid", &child.pid())], || {
        cache = Some(count("filecache", &child, &[]));
    });
    let cache = cache.unwrap();

    let row = counted.only_row(&["kt-reclaim", "cgroup_limit"]);
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
            fork(
                1,
                || clone(0),
                || {
                    rename(c"kt-victim");
                    let memory = map(4 * LIMIT / PAGE);
                    let on_fault = 1;
                    // SAFETY: memory of its own, locked so that it cannot be swapped out.
                    unsafe {
                        libc::syscall(libc::SYS_mlock2, memory, 4 * LIMIT, on_fault);
                        for page in 0..4 * LIMIT / PAGE {
                            memory.add(page * PAGE).write_volatile(1);
                        }
                    }
                },
            );
            reap(1);
        }
    });
    limited.take(&child);
    let filter = [("cgroup", limited.unified.0.to_str().unwrap())];
    // By process, unless told otherwise.
    let mut pids = BTreeSet::new();
    for row in run("oom", &filter, || child.work()).rows() {
        let [comm, pid, cgroup] = &row.labels[..] else {
            panic!("{row:?}");
        };
        assert_eq!((&**comm, row.number("kills")), ("kt-victim", 1));
        assert!(limited.unified.is(cgroup), "{row:?}");
        pids.insert(pid.clone());
    }
    assert_eq!(pids.len(), 3);
    let together = [&filter[..], &[("by_pid", "false"), ("by_cgroup", "false")]].concat();
    let counted = run("oom", &together, || child.work());
    assert_eq!(counted.only_row(&["kt-victim"]).number("kills"), 3);
    // Before its cgroups.
    drop(child);
}
