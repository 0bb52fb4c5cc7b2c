//! Connections of TCP, in a network namespace of each test's own.

use std::fs;
use std::io::{Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use crate::network::{in_network, ip};
use crate::support::{Child, Counted, kernel_has, run, wait_until};

/// `setsockopt` of a value that the kernel reads.
fn set<T>(socket: &impl AsRawFd, level: i32, option: i32, value: &T) {
    // SAFETY: the kernel reads as many bytes as the value has.
    let ret = unsafe {
        let size = size_of::<T>() as u32;
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, value, size)
    };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    // SAFETY: a C struct of integers.
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
    address.sin_port = port.to_be();
    address
}

/// Does not wait for the answer.
fn begin_to_connect(ip: Ipv4Addr, port: u16) -> TcpStream {
    let (to, size) = (address(ip, port), size_of::<libc::sockaddr_in>() as u32);
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the descriptor is fresh and ours; the address lives.
    unsafe {
        let socket = libc::socket(libc::AF_INET, kind, 0);
        assert_eq!(libc::connect(socket, (&raw const to).cast(), size), -1);
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
        TcpStream::from_raw_fd(socket)
    }
}

/// A connection from one address to the other.
fn connect(to: u16) -> std::io::Result<TcpStream> {
    let size = size_of::<libc::sockaddr_in>() as u32;
    let (from, to) = (address(CLIENT, 0), address(SERVER, to));
    // SAFETY: the descriptor is fresh and ours; the addresses live.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let stream = TcpStream::from_raw_fd(socket);
        if libc::bind(socket, (&raw const from).cast(), size) != 0
            || libc::connect(socket, (&raw const to).cast(), size) != 0
        {
            return Err(std::io::Error::last_os_error());
        }
        Ok(stream)
    }
}

/// A connection and the server's end of it.
fn pair(server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(server.local_addr().unwrap().port()).unwrap();
    (client, server.accept().unwrap().0)
}

/// A number out of `struct tcp_info`, at this offset of uapi/linux/tcp.h.
fn info(stream: &TcpStream, offset: usize) -> u32 {
    let mut info = [0u8; 232];
    let mut size = info.len() as u32;
    // SAFETY: the kernel writes at most this number of bytes.
    let ret = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    assert!(ret == 0 && size as usize >= offset + 4);
    u32::from_ne_bytes(info[offset..offset + 4].try_into().unwrap())
}

const UNACKED: usize = 24;
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const SEGS_IN: usize = 140;

/// No connection of this network namespace is left, but those that only wait
/// for their time to pass.
fn wait_until_closed() {
    let is_over = |line: &str| {
        let state = line.split_whitespace().nth(3).unwrap();
        ["06", "0A"].contains(&state) // TIME_WAIT, LISTEN
    };
    wait_until("connections close", || {
        ["tcp", "tcp6"].into_iter().all(|file| {
            let path = format!("/proc/thread-self/net/{file}");
            let lines = fs::read_to_string(path).unwrap_or_default();
            lines.lines().skip(1).all(is_over)
        })
    });
}

const TCP: [&str; 7] = [
    "opened",
    "accepted",
    "closed",
    "failed",
    "retransmits",
    "resets_sent",
    "resets_received",
];

fn assert_tcp(counted: &Counted, labels: [&str; 3], numbers: [u64; 7]) {
    let row = counted.row(&labels);
    assert_eq!(row.numbers(TCP), numbers, "{labels:?}");
}

#[test]
fn connections_of_both_families() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        let mapped = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 81)).unwrap();
        let work = || {
            for _ in 0..23 {
                drop(pair(&server));
            }
            for _ in 0..13 {
                drop(pair(&mapped));
            }
            for _ in 0..5 {
                let client = TcpStream::connect((Ipv6Addr::LOCALHOST, 81)).unwrap();
                drop((client, mapped.accept().unwrap()));
            }
            wait_until_closed();
        };
        let counted = run("tcp", &[("netns", netns)], work);
        assert_eq!(counted.rows().len(), 5, "{:?}", counted.rows());
        let tcp = |labels, numbers| assert_tcp(&counted, labels, numbers);
        tcp(["127.0.0.1", "80", "ipv4"], [23, 0, 23, 0, 0, 0, 0]);
        tcp(["127.0.0.2", "80", "ipv4"], [0, 23, 23, 0, 0, 0, 0]);
        // The server's sockets are of IPv6; what they speak is not.
        tcp(["127.0.0.1", "81", "ipv4"], [13, 0, 13, 0, 0, 0, 0]);
        tcp(["127.0.0.2", "81", "ipv4"], [0, 13, 13, 0, 0, 0, 0]);
        tcp(["::1", "81", "ipv6"], [5, 5, 10, 0, 0, 0, 0]);

        assert_eq!([counted.sum("sent"), counted.sum("received")], [0, 0]);

        let counted = run("tcp", &[("netns", netns), ("port", "80")], work);
        assert_eq!(counted.rows().len(), 2, "{:?}", counted.rows());
        let server = ["127.0.0.1", "80", "ipv4"];
        assert_tcp(&counted, server, [23, 0, 23, 0, 0, 0, 0]);
    });
}

#[test]
fn connections_that_are_refused_or_reset() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        let counted = run("tcp", &[("netns", netns)], || {
            for _ in 0..23 {
                connect(79).unwrap_err();
            }
            for _ in 0..5 {
                let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 79));
                TcpStream::connect(address).unwrap_err();
            }
            for _ in 0..7 {
                let (client, server) = pair(&server);
                let at_once = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                set(&client, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
                drop(client);
                drop(server);
            }
            wait_until_closed();
        });
        let tcp = |labels, numbers| assert_tcp(&counted, labels, numbers);
        tcp(["127.0.0.1", "79", "ipv4"], [0, 0, 0, 23, 0, 0, 23]);
        // No socket listens there: the kernel itself answers. Before 6.10, when
        // resets got their reasons, it did not report that.
        if kernel_has("sk_rst_reason") {
            tcp(["127.0.0.2", "79", "ipv4"], [0, 0, 0, 0, 0, 23, 0]);
            tcp(["::1", "79", "ipv6"], [0, 0, 0, 5, 0, 5, 5]);
            assert_eq!(counted.rows().len(), 5, "{:?}", counted.rows());
        } else {
            tcp(["::1", "79", "ipv6"], [0, 0, 0, 5, 0, 0, 5]);
            assert_eq!(counted.rows().len(), 4, "{:?}", counted.rows());
        }
        tcp(["127.0.0.1", "80", "ipv4"], [7, 0, 7, 0, 0, 7, 0]);
        tcp(["127.0.0.2", "80", "ipv4"], [0, 7, 7, 0, 0, 0, 7]);
        assert_eq!([counted.sum("sent"), counted.sum("received")], [0, 0]);
    });
}

/// Bytes that each end has sent: of two processes, and of the server's ends, which have
/// no process.
#[test]
fn bytes_by_process_and_connection() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        server.set_nonblocking(true).unwrap();
        let children = [23u64, 37].map(|times| {
            Child::new("kt-tcp", || {
                let mut stream = connect(80).unwrap();
                (0..times).for_each(|_| stream.write_all(&[7; 100]).unwrap());
            })
        });
        let serve = || {
            for (child, times) in children.iter().zip([23, 37]) {
                child.work();
                let (mut accepted, _) = server.accept().unwrap();
                accepted.read_exact(&mut vec![0; times * 100]).unwrap();
                assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
            }
            wait_until_closed();
        };
        let bytes = ["opened", "accepted", "closed", "sent", "received"];
        let by = [("netns", netns), ("by_comm", "true"), ("by_pid", "true")];
        let counted = run("tcp", &by, serve);
        assert_eq!(counted.rows().len(), 3, "{:?}", counted.rows());
        for (child, sent) in children.iter().zip([2300, 3700]) {
            let row = counted.row(&["kt-tcp", &child.pid(), "127.0.0.1", "80", "ipv4"]);
            assert_eq!(row.numbers(bytes), [1, 0, 1, sent, 0]);
        }
        let row = counted.row(&["", "0", "127.0.0.2", "80", "ipv4"]);
        assert_eq!(row.numbers(bytes), [0, 2, 2, 0, 6000]);

        // The filters are about the task that connects.
        let pid = children[1].pid();
        let counted = run("tcp", &[("netns", netns), ("pid", &*pid)], serve);
        let row = counted.only_row(&["127.0.0.1", "80", "ipv4"]);
        assert_eq!(row.numbers(bytes), [1, 0, 1, 3700, 0]);

        // While it is open, without what it had before.
        let (mut client, mut accepted) = pair(&server);
        let mut send = |size: usize| {
            client.write_all(&vec![0; size]).unwrap();
            accepted.read_exact(&mut vec![0; size]).unwrap();
            wait_until("it is acknowledged", || info(&client, UNACKED) == 0);
        };
        send(500);
        let counted = run("tcp", &[("netns", netns), ("live", "true")], || {
            [0; 23].iter().for_each(|_| send(100));
        });
        drop((client, accepted));
        wait_until_closed();
        let row = counted.row(&["127.0.0.1", "80", "ipv4"]);
        let sent = row.number("sent");
        // The first answer is what begins to count.
        assert!((2200..=2300).contains(&sent), "{sent}");

        let counted = run("tcp", &[("netns", netns), ("by_connection", "true")], serve);
        let rows = counted.rows();
        assert_eq!(rows.len(), 4, "{rows:?}");
        for times in [23, 37] {
            let with = |metric: &str| {
                let mut its = rows.iter().filter(|it| it.number(metric) == times * 100);
                its.next().unwrap_or_else(|| panic!("{rows:?}"))
            };
            let (client, accepted) = (with("sent"), with("received"));
            let port = &client.labels[1];
            assert_eq!(
                client.labels,
                ["127.0.0.2", port, "127.0.0.1", "80", "80", "ipv4"]
            );
            assert_eq!(
                accepted.labels,
                ["127.0.0.1", "80", "127.0.0.2", port, "80", "ipv4"]
            );
        }
    });
}

/// A row of connects: how many, how many of them failed, and how many have a time.
fn assert_connects(counted: &Counted, labels: [&str; 3], numbers: [u64; 3]) {
    let row = counted.row(&labels);
    let seen = [
        row.number("connects"),
        row.number("failed"),
        row.histogram("latency").0,
    ];
    assert_eq!(seen, numbers, "{labels:?}");
}

#[test]
fn connects_by_process_and_remote_address() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        let mapped = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 81)).unwrap();
        let address = |ip: Ipv4Addr| SocketAddr::from((ip.to_ipv6_mapped(), 81));
        for listener in [&server, &mapped] {
            listener.set_nonblocking(true).unwrap();
        }
        // Nothing accepts meanwhile: the kernel makes connections all the same.
        let first = Child::new("kt-connects", || {
            (0..23).for_each(|_| drop(connect(80)));
            (0..37).for_each(|_| drop(connect(79)));
            (0..5).for_each(|_| drop(TcpStream::connect((Ipv6Addr::LOCALHOST, 81))));
            (0..7).for_each(|_| drop(TcpStream::connect(address(SERVER))));
        });
        let second = Child::new("kt-connects-2", || (0..37).for_each(|_| drop(connect(80))));
        let both = || {
            first.work();
            second.work();
            for listener in [&server, &mapped] {
                while listener.accept().is_ok() {}
            }
        };
        let counted = run("tcpconn", &[("netns", netns)], both);
        assert_eq!(counted.rows().len(), 5, "{:?}", counted.rows());
        let connects = |labels, numbers| assert_connects(&counted, labels, numbers);
        connects(["kt-connects", "127.0.0.1", "80"], [23, 0, 23]);
        connects(["kt-connects", "127.0.0.1", "79"], [37, 37, 0]);
        connects(["kt-connects", "::1", "81"], [5, 0, 5]);
        connects(["kt-connects", "127.0.0.1", "81"], [7, 0, 7]);
        connects(["kt-connects-2", "127.0.0.1", "80"], [37, 0, 37]);

        let options = [("pid", &*second.pid()), ("by_pid", "true")];
        let counted = run("tcpconn", &options, both);
        let row = counted.only_row(&["kt-connects-2", &second.pid(), "127.0.0.1", "80"]);
        assert_eq!(row.number("connects"), 37);
    });
}

/// A host that does not answer: what waits for it is under way, and failed when it is
/// given up.
#[test]
fn connects_without_an_answer() {
    in_network(|netns| {
        ip("route add 10.9.9.0/24 dev lo");
        let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
        let labels = [comm.trim_end(), "10.9.9.9", "80"];
        let mut waiting = Vec::new();
        let counted = run("tcpconn", &[("netns", netns)], || {
            waiting.extend((0..3).map(|_| begin_to_connect([10, 9, 9, 9].into(), 80)));
        });
        assert_connects(&counted, labels, [3, 0, 0]);
        assert_eq!(counted.under_way(), 3);
        // They were begun before: this does not count.
        let counted = run("tcpconn", &[("netns", netns)], || waiting.clear());
        assert!(counted.rows().is_empty(), "{:?}", counted.rows());
        let counted = run("tcpconn", &[("netns", netns)], || {
            (0..5).for_each(|_| drop(begin_to_connect([10, 9, 9, 9].into(), 80)));
        });
        assert_connects(&counted, labels, [5, 5, 0]);
        assert_eq!(counted.under_way(), 0);
    });
}

/// The server's end is deaf for a while: the client repeats itself.
#[test]
fn segments_that_are_sent_again() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        let (mut client, mut deaf) = pair(&server);
        let counted = run("tcp", &[("netns", netns)], || {
            let mut nothing = [libc::sock_filter {
                code: (libc::BPF_RET | libc::BPF_K) as u16,
                jt: 0,
                jf: 0,
                k: 0,
            }];
            let filter = libc::sock_fprog {
                len: 1,
                filter: nothing.as_mut_ptr(),
            };
            set(&deaf, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter);
            client.write_all(b"x").unwrap();
            wait_until("it is sent again", || info(&client, TOTAL_RETRANS) >= 2);
            set(&deaf, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0);
            deaf.read_exact(&mut [0]).unwrap();
            wait_until("it is acknowledged", || info(&client, UNACKED) == 0);
        });
        let again = info(&client, TOTAL_RETRANS).into();
        let row = counted.only_row(&["127.0.0.1", "80", "ipv4"]);
        assert_eq!(row.numbers(TCP), [0, 0, 0, 0, again, 0, 0]);
        // It is one byte all the same.
        let mut ends = Some((client, deaf));
        let counted = run("tcp", &[("netns", netns)], || {
            ends = None;
            wait_until_closed();
        });
        assert_eq!([counted.sum("sent"), counted.sum("received")], [1, 1]);
    });
}

/// A server that waits for data lets the client's first answer pass, and asks
/// once more, a second later.
#[test]
fn handshakes_that_are_sent_again() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        set(&server, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &1);
        let counted = run("tcp", &[("netns", netns)], || {
            drop(pair(&server));
            wait_until_closed();
        });
        assert_eq!(counted.rows().len(), 2, "{:?}", counted.rows());
        let tcp = |labels, numbers| assert_tcp(&counted, labels, numbers);
        tcp(["127.0.0.1", "80", "ipv4"], [1, 0, 1, 0, 0, 0, 0]);
        tcp(["127.0.0.2", "80", "ipv4"], [0, 1, 1, 0, 1, 0, 0]);
    });
}

/// What the kernel tells of each end: its segments, and the least and the most
/// of its round-trip times, in microseconds.
struct Seen {
    segments: u32,
    least: u32,
    most: u32,
}

impl Seen {
    fn new(stream: &TcpStream) -> Self {
        Self {
            segments: info(stream, SEGS_IN),
            least: info(stream, RTT),
            most: info(stream, RTT),
        }
    }

    fn look(&mut self, stream: &TcpStream) {
        self.least = self.least.min(info(stream, RTT));
        self.most = self.most.max(info(stream, RTT));
    }
}

#[test]
fn round_trips_by_remote_address() {
    in_network(|netns| {
        let server = TcpListener::bind((SERVER, 80)).unwrap();
        let other = TcpListener::bind((SERVER, 81)).unwrap();
        let ((mut client, mut accepted), (mut left_out, _)) = (pair(&server), pair(&other));
        let mut ends = [Seen::new(&client), Seen::new(&accepted)];
        let counted = run("tcprtt", &[("netns", netns), ("port", "80")], || {
            left_out.write_all(b"x").unwrap();
            // An answer that is long in coming: 40 ms, of which an eighth goes
            // into the smoothed time.
            set(&accepted, libc::IPPROTO_TCP, libc::TCP_QUICKACK, &0);
            client.write_all(b"x").unwrap();
            wait_until("it is acknowledged", || info(&client, UNACKED) == 0);
            accepted.read_exact(&mut [0]).unwrap();
            for _ in 0..23 {
                ends[0].look(&client);
                ends[1].look(&accepted);
                client.write_all(b"x").unwrap();
                accepted.read_exact(&mut [0]).unwrap();
                accepted.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
            // What is still to be acknowledged is, before we end.
            wait_until("all is quiet", || {
                info(&client, UNACKED) == 0 && info(&accepted, UNACKED) == 0
            });
            std::thread::sleep(Duration::from_millis(50));
            ends[0].look(&client);
            ends[1].look(&accepted);
        });
        assert!(ends[0].most >= 4_000, "the answer came at once");
        assert_eq!(counted.rows().len(), 2, "{:?}", counted.rows());
        for (remote, stream, seen) in [
            ("127.0.0.1", &client, &ends[0]),
            ("127.0.0.2", &accepted, &ends[1]),
        ] {
            let row = counted.row(&[remote]);
            let (count, sum) = row.histogram("rtt");
            let segments = u64::from(info(stream, SEGS_IN) - seen.segments);
            assert!(segments >= 24);
            assert_eq!(count, segments, "{remote}");
            let (least, most) = (u64::from(seen.least), u64::from(seen.most) + 1);
            let bounds = count * least * 1000..=count * most * 1000;
            assert!(bounds.contains(&sum), "{remote}: {sum} not in {bounds:?}");
        }
        assert!(counted.row(&["127.0.0.1"]).histogram("rtt").1 >= 4_000_000);
    });
}
