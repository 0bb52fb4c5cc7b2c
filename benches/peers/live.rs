//! `ktally top` of a table whose rows all count: what it takes of a CPU, and how long a
//! key waits for its screen.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ktally::tally::Session;
use libbpf_rs::{MapCore, MapHandle};
use nix::pty::{Winsize, openpty};

use super::measure::{Table, alternate, joined, ratio, seconds};
use super::reading::{fill, filled, read_all};
use super::subject::{KTALLY, table_of_rows};

const SIZES: [u32; 2] = [1_000, 100_000];
const SECOND: Duration = Duration::from_secs(1);

pub fn section() -> Result<Vec<Table>> {
    let mut table = Table::new(
        "`ktally top` of a table at an interval of 1 s",
        &[
            "rows",
            "% of a CPU",
            "of the limit",
            "ms to a sorted screen",
            "of the limit",
        ],
    );
    for rows in SIZES {
        let name = format!("kt_top_{rows}");
        let tally = table_of_rows(&name, rows)?;
        let session = Session::start(&tally, &[], None)?;
        let map = filled(&name, rows)?;
        let rounds = while_it_counts(&map, rows, || {
            alternate(&[()], |()| {
                let limit = seconds(|| read_all(&map))?;
                let [cpu, key] = View::start(map.info()?.info.id)?.measure()?;
                Ok(Some(vec![cpu, key, limit]))
            })
        })?;
        drop(session);
        let [cpu, key, limit] = &rounds[0][..] else {
            bail!("there were no rounds");
        };
        table.row([
            rows.to_string(),
            cpu.scaled(100.0).show(1),
            ratio(cpu.median(), limit.median(), 1),
            key.scaled(1e3).show(1),
            ratio(key.median(), limit.median(), 1),
        ]);
    }
    let note = "The limit is one reading in bare batches: the view makes one each second. The goal is \
                under 10 % of a CPU and 50 ms.";
    Ok(vec![table.note(note)])
}

/// Has every row count more, ten times a second.
fn while_it_counts<T: Send>(
    map: &MapHandle,
    rows: u32,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut times = 1;
            while !is_done.load(Ordering::Relaxed) {
                times += 1;
                fill(map, rows, times)?;
                thread::sleep(SECOND / 10);
            }
            Ok(())
        });
        let result = work();
        is_done.store(true, Ordering::Relaxed);
        joined(counting)?;
        result
    })
}

/// A view in a terminal of 80x24.
struct View {
    child: Child,
    terminal: File,
}

impl View {
    fn start(map: u32) -> Result<Self> {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None)?;
        let mut command = Command::new("setsid");
        command.args(["--ctty", KTALLY, "top", "--map", &map.to_string()]);
        command.env("TERM", "xterm").stdin(pty.slave.try_clone()?);
        command.stdout(pty.slave.try_clone()?).stderr(pty.slave);
        Ok(Self {
            child: command.spawn().context("failed to start `setsid`")?,
            terminal: pty.master.into(),
        })
    }

    /// The share of a CPU that it takes, and how long a key waits.
    fn measure(mut self) -> Result<[f64; 2]> {
        const KEYS: u32 = 8;
        thread::scope(|scope| {
            let mut screens = self.terminal.try_clone()?;
            let (tell, shown) = std::sync::mpsc::channel();
            scope.spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(len @ 1..) = screens.read(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..len]);
                    if text.contains("any key closes") && tell.send(Instant::now()).is_err() {
                        return;
                    }
                }
            });
            thread::sleep(3 * SECOND);
            let before = self.cpu_time()?;
            thread::sleep(4 * SECOND);
            let cpu = (self.cpu_time()? - before) / 4.0;
            let mut waited = Duration::ZERO;
            for _ in 0..KEYS {
                // The help shows that the key before it was done.
                let pressed = Instant::now();
                self.terminal.write_all(b"s?")?;
                waited += shown.recv_timeout(5 * SECOND)? - pressed;
                self.terminal.write_all(b"x")?;
                thread::sleep(SECOND / 7);
            }
            self.terminal.write_all(b"q")?;
            self.child.wait()?;
            Ok([cpu, waited.as_secs_f64() / f64::from(KEYS)])
        })
    }

    /// In seconds.
    fn cpu_time(&self) -> Result<f64> {
        const TICKS: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let times = fields.split_whitespace().skip(11).take(2);
        Ok(times.flat_map(str::parse::<f64>).sum::<f64>() / TICKS)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
