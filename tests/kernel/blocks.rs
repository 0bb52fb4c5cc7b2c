//! Block devices: loop devices of a test's own, over memory.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::support::{Aligned, Cgroup, Child, Disk, Row, run, wait_until};

/// `include/uapi/linux/fs.h`
const BLKDISCARD: libc::Ioctl = 0x1277;

const BLOCK: usize = 4096;

/// Holds the lock that a write to a disk's memory needs, as long as it lives:
/// by a write of its own, from a page that is missing and stays so.
struct Stall {
    faults: File,
    page: usize,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Stall {
    /// `include/uapi/linux/userfaultfd.h`
    const API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
    const REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
    const ZEROPAGE: libc::Ioctl = 0xc020_aa04_u32 as libc::Ioctl;

    fn new(disk: &Disk) -> Self {
        // SAFETY: a fresh page and a fresh descriptor, both ours.
        let (page, faults) = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(std::ptr::null_mut(), BLOCK, libc::PROT_READ, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            let faults = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
            assert!(faults >= 0, "{}", std::io::Error::last_os_error());
            (page as usize, File::from_raw_fd(faults as i32))
        };
        let mut stall = Self {
            faults,
            page,
            writer: None,
        };
        stall.ask(Self::API, [0xaa, 0, 0, 0]);
        stall.ask(Self::REGISTER, [page as u64, BLOCK as u64, 1, 0]);
        let memory = disk.memory.try_clone().unwrap();
        stall.writer = Some(std::thread::spawn(move || {
            // SAFETY: the page is mapped until this thread has ended.
            let written = unsafe { libc::pwrite(memory.as_raw_fd(), page as *const _, BLOCK, 0) };
            assert_eq!(written, BLOCK as isize);
        }));
        // The writer has the lock, and waits for its page.
        let event = (&stall.faults).read(&mut [0; 32]).unwrap();
        assert_eq!(event, 32);
        stall
    }

    fn ask(&self, request: libc::Ioctl, mut argument: [u64; 4]) {
        // SAFETY: none of these structs is larger than four numbers.
        let ret = unsafe { libc::ioctl(self.faults.as_raw_fd(), request, argument.as_mut_ptr()) };
        assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.ask(Self::ZEROPAGE, [self.page as u64, BLOCK as u64, 0, 0]);
        self.writer.take().unwrap().join().unwrap();
        // SAFETY: our own page, which is no longer used.
        unsafe { libc::munmap(self.page as *mut _, BLOCK) };
    }
}

/// Makes this number of writes, apart from each other. Returns how many failed.
fn write(disk: &File, times: u64) -> usize {
    let data = Aligned([7; BLOCK]);
    let offsets = (0..times).map(|i| i * 4 * BLOCK as u64);
    let results = offsets.map(|offset| disk.write_at(&data.0, offset));
    results.filter(Result::is_err).count()
}

fn read(disk: &File, times: u64) {
    let mut data = Aligned([0; 2 * BLOCK]);
    for i in 0..times {
        let read = disk.read_at(&mut data.0, i * 4 * BLOCK as u64).unwrap();
        assert_eq!(read, 2 * BLOCK);
    }
}

fn discard(disk: &File, bytes: u64) {
    let range = [0, bytes];
    // SAFETY: the kernel reads two numbers that live.
    let ret = unsafe { libc::ioctl(disk.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn requests_by_device_and_operation() {
    let (disk, other) = (Disk::new(1 << 20), Disk::new(1 << 20));
    let (file, other_file) = (disk.open(), other.open());
    let start = Instant::now();
    for device in [disk.name(), disk.path.to_str().unwrap().to_owned()] {
        let counted = run("blkio", &[("device", &device)], || {
            assert_eq!(write(&file, 23), 0);
            assert_eq!(write(&other_file, 5), 0);
            read(&file, 13);
            for _ in 0..7 {
                file.sync_data().unwrap();
            }
            discard(&file, 65_536);
        });
        assert_eq!(counted.rows().len(), 4, "{:?}", counted.rows());
        for (operation, requests, bytes) in [
            ("write", 23, 23 * BLOCK as u64),
            ("read", 13, 13 * 2 * BLOCK as u64),
            ("flush", 7, 0),
            ("discard", 1, 65_536),
        ] {
            let row = counted.row(&[&disk.name(), operation]);
            let numbers = row.numbers(["requests", "bytes", "errors"]);
            assert_eq!(numbers, [requests, bytes, 0], "{operation}");
            let (timed, latency) = row.histogram("latency");
            assert_eq!(timed, requests, "{operation}");
            assert!(latency > 0 && u128::from(latency) < start.elapsed().as_nanos());
        }
    }
}

/// Requests that the disk has been given and has not completed.
fn in_flight(disk: &Disk) -> u64 {
    let numbers = fs::read_to_string(disk.sys("inflight")).unwrap();
    let numbers = numbers.split_whitespace();
    numbers.map(|number| number.parse::<u64>().unwrap()).sum()
}

#[test]
fn latency_is_the_time_that_the_device_takes() {
    const NAP: Duration = Duration::from_millis(30);
    let disk = Disk::new(1 << 20);
    let start = Instant::now();
    let counted = run("blkio", &[("device", &disk.name())], || {
        let stall = Stall::new(&disk);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(write(&disk.open(), 1), 0));
            wait_until("the disk is busy", || in_flight(&disk) == 1);
            std::thread::sleep(NAP);
            drop(stall);
        });
    });
    let row = counted.row(&[&disk.name(), "write"]);
    let (requests, time) = row.histogram("latency");
    assert_eq!(requests, 1);
    let bounds = NAP.as_nanos()..start.elapsed().as_nanos();
    assert!(bounds.contains(&time.into()), "{time} not in {bounds:?}");
}

#[test]
fn requests_that_fail_move_no_bytes() {
    let disk = Disk::new(1 << 20);
    let file = disk.open();
    disk.seal();
    let counted = run("blkio", &[("device", &disk.name())], || {
        assert_eq!(write(&file, 23), 23);
        read(&file, 1);
    });
    let row = counted.row(&[&disk.name(), "write"]);
    let numbers = row.numbers(["requests", "errors", "bytes"]);
    assert_eq!(numbers, [23, 23, 0]);
    assert_eq!(row.histogram("latency").0, 23);
    let row = counted.row(&[&disk.name(), "read"]);
    assert_eq!(row.numbers(["requests", "errors"]), [1, 0]);
}

#[test]
fn time_in_the_queue_of_a_scheduler() {
    let disk = Disk::new(1 << 20);
    let file = disk.open();
    let path = disk.sys("queue/scheduler");
    let known = fs::read_to_string(&path).unwrap();
    for scheduler in ["none", "mq-deadline"] {
        if !known.contains(scheduler) {
            continue; // This kernel was built without it.
        }
        fs::write(&path, scheduler).unwrap();
        let start = Instant::now();
        let counted = run("blkio", &[("device", &disk.name())], || {
            assert_eq!(write(&file, 23), 0);
        });
        let row = counted.row(&[&disk.name(), "write"]);
        assert_eq!(row.number("requests"), 23);
        let queued = row.number("queued");
        // Without one, newer kernels give a request straight to the device.
        assert!(queued > 0 || scheduler == "none");
        assert!(u128::from(queued) < start.elapsed().as_nanos());
    }
}

/// Two processes of one name, each in a cgroup of its own. Where there is a scheduler,
/// kworkers issue what they have queued.
#[test]
fn requests_by_who_issued_them() {
    let disk = Disk::new(1 << 20);
    let path = disk.sys("queue/scheduler");
    let children = [(23, 13), (37, 5)].map(|(writes, reads)| {
        let child = Child::new("kt-blkio", || {
            let file = disk.open();
            write(&file, writes);
            read(&file, reads);
        });
        let cgroup = Cgroup::of_root(&format!("kt-blkio-{writes}"));
        cgroup.take(&child);
        (child, cgroup, [("write", writes, 1), ("read", reads, 2)])
    });
    let schedulers = fs::read_to_string(&path).unwrap();
    let known = |it: &&str| schedulers.contains(it);
    for scheduler in ["none", "mq-deadline"].into_iter().filter(known) {
        fs::write(&path, scheduler).unwrap();
        let name = disk.name();
        let by = ["by_comm", "by_pid", "by_tid", "by_cgroup"].map(|it| (it, "true"));
        let options = [&[("device", &*name)], &by[..]].concat();
        let counted = run("blkio", &options, || {
            children.iter().for_each(|(child, _, _)| child.work());
        });
        let rows = counted.rows();
        assert_eq!(rows.len(), 4, "{scheduler}: {rows:?}");
        for (child, cgroup, due) in &children {
            let pid = child.pid();
            let its = |it: &&Row<'_>| it.labels[..3] == ["kt-blkio", &*pid, &*pid];
            for (operation, requests, blocks) in due {
                let row = rows
                    .iter()
                    .filter(its)
                    .find(|it| it.labels[5] == *operation);
                let row = row.unwrap_or_else(|| panic!("{scheduler}: {rows:?}"));
                assert!(cgroup.is(&row.labels[3]), "{scheduler}: {row:?}");
                assert_eq!(row.labels[4], name);
                let numbers = row.numbers(["requests", "bytes"]);
                assert_eq!(numbers, [*requests, requests * blocks * BLOCK as u64]);
                assert_eq!(row.histogram("latency").0, *requests);
            }
        }
        // The filters are about the task that issues, or queues.
        let (child, cgroup, due) = &children[1];
        let (pid, path) = (child.pid(), cgroup.0.to_str().unwrap());
        for filter in [("pid", &*pid), ("cgroup", path)] {
            let counted = run("blkio", &[("device", &*name), filter], || {
                children.iter().for_each(|(child, _, _)| child.work());
            });
            assert_eq!(counted.rows().len(), 2, "{filter:?}: {:?}", counted.rows());
            for (operation, requests, _) in due {
                let row = counted.row(&[&*name, operation]);
                assert_eq!(row.number("requests"), *requests, "{filter:?}");
                assert_eq!(row.histogram("latency").0, *requests, "{filter:?}");
            }
        }
    }
}

/// It has not come back yet, and is already its process's.
#[test]
fn requests_under_way_are_of_who_issued_them() {
    let disk = Disk::new(1 << 20);
    let child = Child::new("kt-blkio", || {
        write(&disk.open(), 23);
    });
    let mut stall = None;
    let (name, pid) = (disk.name(), child.pid());
    let options = [("device", &*name), ("by_comm", "true"), ("by_pid", "true")];
    let mut counted = run("blkio", &options, || {
        if stall.take().is_some() {
            child.wait();
        }
        child.work();
        stall = Some(Stall::new(&disk));
        child.start();
        wait_until("the disk is busy", || in_flight(&disk) == 1);
    });
    let tables = [counted.table().clone()];
    counted.reading = counted.reading.in_all(&tables).into_owned();
    let row = counted.only_row(&["kt-blkio", &pid, &name, "write"]);
    assert_eq!(row.numbers(["requests", "under_way"]), [23, 1]);
    drop(stall);
    child.wait();
}
