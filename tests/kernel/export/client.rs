//! A client of HTTP that does what it is told, also what no honest one does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::common::json;

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// The text, also where it is compressed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.header("content-encoding") == Some("gzip") {
            let mut unpacked = GzDecoder::new(&*self.body);
            unpacked.read_to_string(&mut text).unwrap();
            return text;
        }
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// The head of a GET of a path, with these lines in it.
pub fn head(path: &str, headers: &[&str]) -> String {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        head += &format!("{header}\r\n");
    }
    head + "\r\n"
}

/// A GET of a path, with these lines in its head.
pub fn request(socket: &Path, path: &str, headers: &[&str]) -> io::Result<Reply> {
    send(UnixStream::connect(socket)?, head(path, headers).as_bytes())
}

/// The same by TCP, with any head.
pub fn tcp(address: SocketAddr, head: &str) -> Reply {
    send(TcpStream::connect(address).unwrap(), head.as_bytes()).unwrap()
}

/// Any bytes, and what is answered until the server closes.
pub fn send(mut stream: impl Read + Write, bytes: &[u8]) -> io::Result<Reply> {
    stream.write_all(bytes)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    parse(&all).ok_or_else(|| io::Error::other("no reply"))
}

fn parse(all: &[u8]) -> Option<Reply> {
    let end = all.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = String::from_utf8(all[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut reply = Reply {
        status,
        head,
        body: all[end + 4..].to_vec(),
    };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = unchunked(&reply.body)?;
    }
    Some(reply)
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// A number as Go writes it.
pub fn go(number: f64) -> String {
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    match exponent {
        -4..6 if number.fract() == 0.0 => format!("{number}.0"),
        -4..6 => format!("{number}"),
        6.. => format!("{digits}e+{exponent:02}"),
        _ => format!("{digits}e-{:02}", -exponent),
    }
}

/// The `data:` of server-sent events, one after the other.
pub struct Events(BufReader<UnixStream>);

impl Events {
    pub fn open(socket: &Path, path: &str) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next event: its kind and its data.
    pub fn next(&mut self) -> (String, Value) {
        let mut kind = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.0.read_line(&mut line).unwrap(),
                0,
                "the stream has ended"
            );
            if let Some(event) = line.trim_end().strip_prefix("event: ") {
                kind = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (kind, json(data));
            }
        }
    }
}
