//! A scrape of `ktally export`: beside the bare batches, and beside the encoder of
//! prometheus-client, which is given the same rows.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ktally::map::{Map, Reader};
use ktally::tally::Session;
use libbpf_rs::{MapCore, MapHandle};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::measure::{Rounds, Table, alternate, ratio, seconds};
use super::reading::{filled, read_all};
use super::subject::{KTALLY, resident, table_of_rows};

const SIZES: [u32; 2] = [1_000, 100_000];

/// For as long a reading is shared.
const SHARED: Duration = Duration::from_millis(600);

#[derive(Clone, Copy)]
enum Who {
    Bare,
    Exporter,
    Client,
}

const WHO: [(&str, Who); 3] = [
    ("bare batches, the limit", Who::Bare),
    ("ktally export, a scrape", Who::Exporter),
    ("prometheus-client: read, set, encode", Who::Client),
];

pub fn section() -> Result<Vec<Table>> {
    let mut table = Table::new(
        "A scrape of `ktally export`: ms, a series for each row",
        &[
            "rows",
            "subject",
            "ms",
            "of the limit",
            "MiB idle",
            "MiB at most",
        ],
    );
    for rows in SIZES {
        let name = format!("kt_exp_{rows}");
        let tally = table_of_rows(&name, rows)?;
        let session = Session::start(&tally, &[], None)?;
        let map = filled(&name, rows)?;
        let exporter = Exporter::start(map.info()?.info.id, rows)?;
        let idle = resident(exporter.process.id())?;
        let client = Client::new();
        let rounds = alternate(&WHO, |(_, who)| {
            let taken = match who {
                Who::Bare => seconds(|| read_all(&map))?,
                Who::Exporter => exporter.scrape(rows)?,
                Who::Client => seconds(|| client.scrape(&map, rows))?,
            };
            Ok(Some(vec![taken]))
        })?;
        let most = resident(exporter.process.id())?;
        drop((exporter, session));
        let limit = rounds[0].first().and_then(Rounds::median);
        for ((subject, who), rounds) in WHO.iter().zip(&rounds) {
            let is_it = matches!(who, Who::Exporter);
            let mib = |mib: f64| {
                if is_it {
                    format!("{mib:.1}")
                } else {
                    "-".into()
                }
            };
            table.row([
                rows.to_string(),
                (*subject).to_owned(),
                rounds[0].scaled(1e3).show(1),
                ratio(rounds[0].median(), limit, 1),
                mib(idle),
                mib(most),
            ]);
        }
    }
    let note = "The goal is 1 s and 3 times the limit for 100,000 rows, under 64 MiB; 12 MiB idle.";
    Ok(vec![table.note(note)])
}

/// `ktally export` of one map.
struct Exporter {
    process: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Exporter {
    fn start(map: u32, rows: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("socket");
        let process = Command::new(KTALLY)
            .args(["export", "--as-counter", "--map", &map.to_string()])
            .args(["--max-series", &rows.to_string()])
            .arg(format!("--listen=unix:{}", socket.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let started = Self {
            process,
            socket,
            _folder: folder,
        };
        for _ in 0..100 {
            if get(&started.socket, "/-/ready").is_ok() {
                return Ok(started);
            }
            sleep(Duration::from_millis(50));
        }
        bail!("the exporter does not answer")
    }

    /// Seconds, from a request to the last byte.
    fn scrape(&self, rows: u32) -> Result<f64> {
        sleep(SHARED);
        let start = Instant::now();
        let text = get(&self.socket, "/metrics")?;
        let taken = start.elapsed().as_secs_f64();
        let counters = text.windows(9).filter(|it| it == b"_total{co").count();
        ensure!(counters == rows as usize, "{counters} series");
        Ok(taken)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(socket: &Path, path: &str) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    ensure!(reply.starts_with(b"HTTP/1.1 200"), "{path} is refused");
    Ok(reply)
}

type Labels = [(&'static str, String); 2];

/// An exporter as one is written with prometheus-client: the same series, each set to
/// what its row has.
struct Client {
    registry: Registry,
    counts: Family<Labels, Counter>,
}

impl Client {
    fn new() -> Self {
        let mut registry = Registry::default();
        let counts = Family::<Labels, Counter>::default();
        registry.register("rows", "what happened", counts.clone());
        Self { registry, counts }
    }

    fn scrape(&self, map: &MapHandle, rows: u32) -> Result<()> {
        Reader::new(&Map::new(map.as_fd())?).read(|key, value| {
            let comm = String::from_utf8_lossy(&key[..16]);
            let comm = comm.trim_end_matches('\0').to_owned();
            let call = key[16..]
                .first_chunk()
                .map_or(0, |it| u32::from_ne_bytes(*it));
            let count = value.first_chunk().map_or(0, |it| u64::from_ne_bytes(*it));
            let labels = [("comm", comm), ("call", call.to_string())];
            let counter = self.counts.get_or_create(&labels);
            counter.inc_by(count - counter.get());
            ControlFlow::Continue(())
        })?;
        let mut text = String::new();
        encode(&mut text, &self.registry).context("failed to encode")?;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("rows_total"))
            .count();
        ensure!(lines == rows as usize, "{lines} series");
        Ok(())
    }
}
