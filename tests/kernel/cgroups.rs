//! What a cgroup uses.

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{assert_has, ktally};
use crate::run::Run;
use crate::support::{
    Aligned, Cgroup, Child, Disk, ask_for_parent, fail_to_open, kernel_has, nap, run, work,
};

/// Sends itself bytes through the loopback interface; 4 system calls, and 2 each
/// time. The standard library allocates no memory for it, nor for [`write`].
fn talk(times: u64) {
    let data = [7u8; 100];
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = socket.local_addr().unwrap();
    for _ in 0..times {
        socket.send_to(&data, own).unwrap();
        socket.recv(&mut [0; 200]).unwrap();
    }
    close(socket);
}

/// One system call; the standard library makes another one in debug builds.
fn close(file: impl IntoRawFd) {
    nix::unistd::close(file.into_raw_fd()).unwrap();
}

/// Blocks written past all caches; 2 system calls, and 1 each time.
fn write(disk: &Path, times: u64) {
    let data = Aligned([7; 4096]);
    let mut options = OpenOptions::new();
    let direct = options.write(true).custom_flags(libc::O_DIRECT);
    let file = direct.open(disk).unwrap();
    for i in 0..times {
        file.write_at(&data.0, i * 8192).unwrap();
    }
    close(file);
}

fn spin() {
    for i in 0..20_000_000u64 {
        black_box(i);
    }
}

/// Its time on a CPU, as the scheduler has it.
fn cpu_time(child: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/schedstat", child.pid())).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn cpu_calls_and_bytes_of_a_cgroup() {
    let disk = Disk::new(1 << 20);
    let outer = Cgroup::of_root("kt-usage");
    let inner = Cgroup::new(outer.0.clone(), "inner");
    let usage = || {
        ask_for_parent(23);
        talk(23);
        write(&disk.path, 23);
        nap(23);
        spin();
    };
    let child = Child::new("kt-usage", usage);
    let outside = Child::new("kt-usage", usage);
    inner.take(&child);

    let mut short = Vec::new();
    for _ in 0..5 {
        let before = cpu_time(&child);
        let start = Instant::now();
        let options = [("cgroup", outer.0.to_str().unwrap())];
        let counted = run("cgroups", &options, || work(&[&child, &outside]));
        let wall = start.elapsed();
        let used = cpu_time(&child) - before;

        let name = outer.0.file_name().unwrap().to_str().unwrap();
        let row = counted.only_row(&[&format!("/{name}/inner")]);
        // With the `write` that tells us and the `read` that it waits in.
        let calls = 23 + (4 + 2 * 23) + (2 + 23) + 23 + 2;
        assert_eq!(row.number("syscalls"), calls);
        for (direction, event) in [
            ("sent", "sock_send_length"),
            ("received", "sock_recv_length"),
        ] {
            // Kernels before 6.3 do not tell.
            let bytes = match kernel_has(&format!("btf_trace_{event}")) {
                true => 2300,
                false => 0,
            };
            assert_eq!(row.number(direction), bytes, "{direction}");
        }
        assert_eq!(row.number("block_bytes"), 23 * 4096);
        // Interrupts are in it, and not in the scheduler's number; the clocks of
        // the two are read at slightly different moments.
        let time = row.number("cpu_time");
        assert!(Duration::from_nanos(used) > Duration::from_millis(1));
        assert!(u128::from(time) < wall.as_nanos());
        // A kernel may switch to a task and back without its tracepoint: a slice
        // is not seen then.
        if time >= used - used / 20 {
            return;
        }
        short.push(format!("{time} of {used} ns"));
    }
    panic!("{short:?}");
}

/// One that was there when counting began, and one that came later.
#[test]
fn removed_cgroups_keep_the_path_that_they_were_seen_with() {
    let child = Child::new("kt-moved", || ask_for_parent(23));
    let before = Cgroup::of_root("kt-gone-first");
    let mut running = Run::counting("cgroups --for 6s -o json");
    let later = Cgroup::of_root("kt-gone-later");
    for cgroup in [&before, &later] {
        cgroup.take(&child);
        child.work();
    }
    std::thread::sleep(Duration::from_millis(2500));
    let root = before.0.parent().unwrap().join("cgroup.procs");
    fs::write(root, child.pid()).unwrap();
    let paths = [&before, &later].map(|it| it.0.file_name().unwrap().to_owned());
    drop((before, later));
    let said = running.end().done();
    for path in paths {
        let shown = format!("\"cgroup\":\"/{}\"", path.to_str().unwrap());
        assert_has(&said, &[&shown]);
    }
}

/// A service and a container with a folder of its own: what tables show is what
/// `--cgroup` and `--where` take.
#[test]
fn units_and_containers_by_what_they_are_called() {
    let pid = std::process::id();
    let root = ktally::host::cgroup2_mounts().next().unwrap();
    let id = format!("c0ffee{pid:06x}{}", "e".repeat(52));
    let (unit, scope) = (format!("kt-{pid}.service"), format!("docker-{id}.scope"));
    let service = Cgroup::new(root.clone(), &unit);
    let container = Cgroup::new(root, &scope);
    let inner = Cgroup::new(container.0.clone(), "inner");
    let few = Child::new("kt-unit", || fail_to_open(23));
    let many = Child::new("kt-container", || fail_to_open(37));
    service.take(&few);
    inner.take(&many);

    for (name, comm, calls) in [
        (unit.as_str(), "kt-unit", 23),
        (&format!("/{unit}"), "kt-unit", 23),
        (&format!("/sys/fs/cgroup/{unit}"), "kt-unit", 23),
        (&id[..12], "kt-container", 37),
        (&format!("docker {}", &id[..12]), "kt-container", 37),
        (&scope, "kt-container", 37),
        (&format!("docker {}/inner", &id[..12]), "kt-container", 37),
    ] {
        let counted = run("failures", &[("cgroup", name)], || work(&[&few, &many]));
        let row = counted.only_row(&[comm, "openat", "ENOENT"]);
        assert_eq!(row.number("calls"), calls, "{name}");
    }

    let table = |args: &str| {
        let args = format!("cgroups --for 5s --total {args}");
        let mut running = Run::counting(&*args);
        work(&[&few, &many]);
        std::thread::sleep(Duration::from_millis(1500));
        running.stop().done()
    };
    let shown = format!("docker {}/inner", &id[..12]);
    assert_has(&table(""), &[&unit, &shown]);
    assert_has(
        &table("--raw"),
        &[&format!("/{scope}/inner"), &format!("/{unit}")],
    );
    let json = table("-o json");
    assert_has(&json, &[&format!("\"cgroup\":\"/{scope}/inner\"")]);
    let wrong = ktally([
        "run",
        "failures",
        "--for=0",
        &format!("--cgroup=kt-{pid}.servic"),
    ]);
    wrong.refused(
        2,
        &[&format!("did you mean `{unit}`"), "a cgroup's directory"],
    );
}
