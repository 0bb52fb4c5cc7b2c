//! Clients that mean no good: honest ones are answered all the same, and memory does not
//! grow.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::client::{Reply, head, send, tcp};
use super::{Exporter, Host, samples};
use crate::support::status_number;

/// What an exporter has now.
#[derive(Debug)]
pub struct Usage {
    /// Resident, in bytes.
    pub memory: u64,
    pub descriptors: usize,
}

impl Usage {
    pub fn of(exporter: &Exporter) -> Self {
        let folder = format!("/proc/{}/fd", exporter.run.id());
        Self {
            memory: status_number(exporter.run.id(), "VmRSS") << 10,
            descriptors: fs::read_dir(folder).unwrap().count(),
        }
    }
}

impl Exporter {
    fn memory(&self) -> u64 {
        Usage::of(self).memory
    }

    fn descriptors(&self) -> usize {
        Usage::of(self).descriptors
    }

    /// A client that behaves gets what it wants. It does not wait for long.
    #[track_caller]
    fn assert_honest(&self) {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let patience = Some(Duration::from_secs(5));
        stream.set_read_timeout(patience).unwrap();
        let reply = send(stream, head("/metrics", &[]).as_bytes()).unwrap();
        assert_eq!(reply.status, 200);
        let text = reply.text();
        assert!(
            text.contains("\nktally_up{tally=\"softirqs\"} 1\n"),
            "{text}"
        );
    }

    fn connect(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // The server may have closed it.
        let _ = stream.write_all(bytes);
        stream
    }
}

/// Room for buffers of all connections that there can be.
const MORE: u64 = 32 << 20;

#[test]
fn slow_clients_keep_none_out() {
    let host = Host::new();
    let exporter = Exporter::start(&host, "softirqs");
    exporter.assert_honest();
    let before = exporter.memory();
    for bytes in [
        // The head never ends.
        &b"GET /metrics HTTP/1.1\r\nHost: loc"[..],
        // Nothing is ever read.
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/stream?every=1s HTTP/1.1\r\nHost: localhost\r\n\r\n",
        // Not even a word.
        b"",
    ] {
        let slow: Vec<UnixStream> = (0..1000).map(|_| exporter.connect(bytes)).collect();
        exporter.assert_honest();
        assert!(exporter.descriptors() < 400, "{}", exporter.descriptors());
        drop(slow);
    }
    for _ in 0..10_000 {
        drop(exporter.connect(b"GET / HT"));
    }
    exporter.assert_honest();
    let after = exporter.memory();
    assert!(after < before + MORE, "{before} {after}");
}

/// A client that takes nothing of a large answer does not hold it for long.
#[test]
fn clients_that_never_read_are_cut() {
    let host = Host::new();
    let exporter = Exporter::start(&host, "softirqs");
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut streams: Vec<UnixStream> = (0..20).map(|_| exporter.connect(request)).collect();
    // Requests that come one after the other fill every buffer.
    for stream in &mut streams {
        stream.set_nonblocking(true).unwrap();
        for _ in 0..2000 {
            if stream.write(request).is_err() {
                break;
            }
        }
    }
    exporter.assert_honest();
    crate::support::wait_until("slow clients are cut", || exporter.descriptors() < 40);
    exporter.assert_honest();
}

#[test]
fn nonsense_is_refused() {
    let host = Host::new();
    let mut exporter = Exporter::start(&host, "softirqs");
    let before = exporter.memory();
    let head = |line: &str, more: &str| {
        format!("{line}\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
    };
    let large = format!("X: {}\r\n", "x".repeat(1 << 20));
    let many = "X: y\r\n".repeat(5000);
    let cases: [(String, &[u16]); 22] = [
        (head("GET /metrics HTTP/1.1", &large), &[431]),
        (head("GET /metrics HTTP/1.1", &many), &[431]),
        (
            head(&format!("GET /{} HTTP/1.1", "x".repeat(1 << 20)), ""),
            &[400, 414, 431],
        ),
        (head("GET /../../etc/passwd HTTP/1.1", ""), &[404]),
        (head("GET /metrics/../../etc/passwd HTTP/1.1", ""), &[404]),
        (head("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1", ""), &[404]),
        (head("GET /metrics%00 HTTP/1.1", ""), &[404]),
        (head("GET //metrics HTTP/1.1", ""), &[404]),
        (head("GET /metrics/ HTTP/1.1", ""), &[404]),
        (head("GET /METRICS HTTP/1.1", ""), &[404]),
        (head("GET * HTTP/1.1", ""), &[400, 404]),
        (head("OPTIONS * HTTP/1.1", ""), &[405]),
        (
            head("POST /metrics HTTP/1.1", "Content-Length: 3\r\n"),
            &[405],
        ),
        (head("DELETE /metrics HTTP/1.1", ""), &[405]),
        (head("CONNECT db1:22 HTTP/1.1", ""), &[405]),
        (head("GET /metrics HTTP/9.9", ""), &[400, 505]),
        (head("GET  HTTP/1.1", ""), &[400]),
        (head("\0\0\0", ""), &[400]),
        (head("GET /\u{1b}[31m HTTP/1.1", ""), &[400, 404]),
        (
            head(
                "GET /metrics HTTP/1.1",
                "Content-Length: 1\r\nContent-Length: 2\r\n",
            ),
            &[400],
        ),
        (
            head("GET /api/v1/read?where=%ff%00%25 HTTP/1.1", ""),
            &[400],
        ),
        (
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\r\n\r\n".to_owned(),
            &[400],
        ),
    ];
    for (request, statuses) in cases {
        let shown: String = request.chars().take(60).collect();
        let stream = UnixStream::connect(&exporter.socket).unwrap();
        match send(stream, request.as_bytes()) {
            Ok(reply) => assert!(statuses.contains(&reply.status), "{shown:?}: {reply:?}"),
            // It closes before all of it is sent.
            Err(error) => assert!(request.len() > 16 << 10, "{shown:?}: {error}"),
        }
    }
    exporter.assert_honest();
    assert!(exporter.memory() < before + MORE);
    exporter.run.signal(libc::SIGTERM);
    let ended = exporter.run.end().failed(0, &[]);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// The name of a hostile site may lead to this address.
#[test]
fn another_host_is_refused() {
    let host = Host::new();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let listen = format!("softirqs --host metrics.example --listen {free}");
    let exporter = Exporter::start(&host, &listen);
    for (name, status) in [
        ("127.0.0.1", 200),
        ("localhost:9777", 200),
        ("METRICS.example", 200),
        ("evil.example", 403),
        ("metrics.example.evil.example", 403),
        ("", 403),
    ] {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        assert_eq!(tcp(free, &head).status, status, "{name}");
    }
    let absolute =
        "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(tcp(free, absolute).status, 403);
    let none = "GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(tcp(free, none).status, 403);
    // A page of a browser cannot reach a socket by its path.
    let reply = exporter.get("/metrics", &["Host: evil.example"]);
    assert_eq!(reply.status, 200);
}

#[test]
fn a_head_has_no_body_and_gzip_the_same_text() {
    let host = Host::new();
    let exporter = Exporter::start(&host, "softirqs");
    let mut stream =
        exporter.connect(b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");

    let plain = exporter.get("/metrics", &[]);
    let packed = exporter.get("/metrics", &["Accept-Encoding: gzip"]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < plain.body.len());
    let series = |reply: &Reply| samples(&reply.text()).into_keys().collect::<Vec<_>>();
    assert_eq!(series(&packed), series(&plain));
    let open = exporter.get("/metrics", &["Accept: application/openmetrics-text"]);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(kind));
    assert!(open.text().ends_with("\n# EOF\n"));
}
