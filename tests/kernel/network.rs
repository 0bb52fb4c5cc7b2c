//! Packets and drops, in a network namespace of each test's own.

use std::collections::BTreeMap;
use std::fs;
use std::mem::{size_of, zeroed};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

use crate::common::{command, end};
use crate::support::{Counted, kernel_has, require_root, run};

/// Runs in a network namespace of its own, given the option that selects it.
/// Stays on one CPU: what it sends there arrives in the order of sending.
pub fn in_network(work: impl FnOnce(&str) + Send) {
    require_root();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut cpu = CpuSet::new();
            // SAFETY: no arguments.
            cpu.set(unsafe { libc::sched_getcpu() } as usize).unwrap();
            sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
            ip("link set lo up");
            work("/proc/thread-self/ns/net");
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub fn ip(arguments: &str) {
    end(command("ip").args(arguments.split(' '))).good();
}

/// Everything that was sent on this CPU before has been received.
fn settle() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    socket.send(b"x").unwrap();
    socket.recv(&mut [0]).unwrap();
}

// ---- interfaces -------------------------------------------------------------

/// A socket that sends and receives whole frames on one interface.
fn packet_socket(index: i32) -> OwnedFd {
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: the descriptor is fresh and ours; the address lives.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        let socket = OwnedFd::from_raw_fd(socket);
        let mut address: libc::sockaddr_ll = zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        let ret = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size);
        assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
        socket
    }
}

/// Two interfaces, of which each receives what the other sends. No packet comes
/// from the kernel itself.
fn connected_pair() -> [OwnedFd; 2] {
    for protocol in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{protocol}/disable_ipv6");
        // A kernel without IPv6 has no such file, and sends nothing.
        let _ = fs::write(path, "1");
    }
    ip("link add kt0 type veth peer name kt1");
    ["kt0", "kt1"].map(|name| {
        ip(&format!("link set {name} up"));
        let index = nix::net::if_::if_nametoindex(name).unwrap();
        packet_socket(index as i32)
    })
}

/// A broadcast, of an experimental protocol.
fn frame() -> [u8; 60] {
    let mut frame = [7; 60];
    frame[..6].fill(0xff);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn send_frames(socket: &OwnedFd, times: u64) {
    for _ in 0..times {
        assert_eq!(nix::unistd::write(socket, &frame()).unwrap(), 60);
    }
}

fn receive_frames(socket: &OwnedFd, times: u64) {
    for _ in 0..times {
        let mut bytes = [0; 100];
        assert_eq!(nix::unistd::read(socket, &mut bytes).unwrap(), 60);
        assert_eq!(bytes[..60], frame());
    }
}

#[test]
fn packets_by_interface_and_direction() {
    in_network(|netns| {
        let [first, second] = connected_pair();
        let counted = run("netdev", &[("netns", netns)], || {
            send_frames(&first, 23);
            receive_frames(&second, 23);
            send_frames(&second, 5);
            receive_frames(&first, 5);
            settle();
        });
        assert_eq!(counted.rows().len(), 6, "{:?}", counted.rows());
        // The settling packet: a byte, and headers of 8, 20 and 14.
        for (interface, direction, packets, bytes) in [
            ("kt0", "sent", 23, 23 * 60),
            ("kt1", "received", 23, 23 * 60),
            ("kt1", "sent", 5, 5 * 60),
            ("kt0", "received", 5, 5 * 60),
            ("lo", "sent", 1, 43),
            ("lo", "received", 1, 43),
        ] {
            let row = counted.row(&[interface, direction]);
            let numbers = row.numbers(["packets", "bytes"]);
            assert_eq!(numbers, [packets, bytes], "{interface} {direction}");
        }
    });
}

#[test]
fn packets_of_another_namespace_are_left_out() {
    in_network(|netns| {
        let counted = run("netdev", &[("netns", netns)], || in_network(|_| settle()));
        assert!(counted.rows().is_empty(), "{:?}", counted.rows());
    });
}

// ---- drops ------------------------------------------------------------------

/// The kernel's function at an address, by the symbols that it shows.
fn function(address: u64) -> String {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let symbols = symbols.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let start = u64::from_str_radix(words.next()?, 16).ok()?;
        let is_code = words.next()?.eq_ignore_ascii_case("t");
        (is_code && start <= address).then_some((start, words.next()?))
    });
    let (_, name) = symbols.max_by_key(|(start, _)| *start).unwrap();
    name.to_owned()
}

/// Packets by reason, protocol and function.
fn drops(counted: &Counted) -> BTreeMap<(String, String, String), u64> {
    let rows = counted.rows();
    let keys = counted.reading.tables[0].rows.iter().map(|(key, _)| key);
    let rows = rows.iter().zip(keys).map(|(row, key)| {
        let location = u64::from_ne_bytes(key[8..16].try_into().unwrap());
        let [reason, protocol, shown] = &row.labels[..] else {
            panic!("{row:?}");
        };
        assert!(!shown.is_empty() && shown != "0");
        let key = (reason.clone(), protocol.clone(), function(location));
        (key, row.number("packets"))
    });
    rows.collect()
}

#[test]
fn packets_that_nobody_wants() {
    in_network(|netns| {
        let [first, second] = connected_pair();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Unheard on the other side, frames of its protocol are dropped.
        drop(second);
        let counted = run("netdrops", &[("netns", netns)], || {
            for _ in 0..23 {
                socket.send_to(b"x", "127.0.0.1:9").unwrap();
            }
            send_frames(&first, 5);
            settle();
        });
        let drops = drops(&counted);
        assert_eq!(drops.len(), 2, "{drops:?}");
        for (reason, protocol, packets, place) in [
            ("NO_SOCKET", "ipv4", 23, "udp"),
            ("UNHANDLED_PROTO", "34997", 5, "netif_receive_skb"),
        ] {
            let mut rows = drops.iter().filter(|((_, it, _), _)| it == protocol);
            let ((found, _, function), count) = rows.next().unwrap();
            assert_eq!(*count, packets);
            assert!(function.contains(place), "{function}");
            // Older kernels know fewer reasons, or none.
            let name = format!("SKB_DROP_REASON_{reason}");
            assert!(found == reason || !kernel_has(&name), "{found}");
        }
    });
}
