//! What a terminal of 80 columns shows.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{NaiveDateTime, Utc};
use libbpf_rs::MapType;
use nix::sys::termios::{FlowArg, tcflow};
use unicode_width::UnicodeWidthStr;

use crate::common::{Args, ktally, program};
use crate::support::{maps, resize, terminal_of, wait_until};

/// What the program writes to a terminal, without its colors.
fn shown(columns: u16, line: &str, set: impl FnOnce(&mut Command)) -> String {
    let [mut master, slave] = terminal_of(columns);
    let line = format!("{line} --color never");
    let mut command = line.as_str().pass_to(program());
    set(command.stdout(slave).stderr(Stdio::null()));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut all = Vec::new();
    // It ends with EIO once the other end is closed.
    let _ = master.read_to_end(&mut all);
    assert!(child.wait().unwrap().success(), "{line}");
    String::from_utf8(all).unwrap().replace('\r', "")
}

fn widest(text: &str) -> usize {
    text.lines().map(UnicodeWidthStr::width).max().unwrap()
}

/// Makes connections and system calls meanwhile.
fn while_connecting<T>(act: impl FnOnce() -> T) -> T {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let client = TcpStream::connect(address).unwrap();
                drop((listener.accept().unwrap(), client));
                thread::sleep(Duration::from_millis(10));
            }
        });
        let result = act();
        is_done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    // For `map list`.
    let _map = maps::create(MapType::Hash, 8, 8, 4);
    for (line, head) in [
        ("list", "NAME"),
        ("check", "WHAT"),
        ("map list", "ID"),
        ("run syscalls --for 500ms", "COMM"),
        ("run tcp --for 500ms", "REMOTE"),
    ] {
        let text = while_connecting(|| shown(80, line, |_| {}));
        assert!(widest(&text) <= 80, "{line}: {text}");
        let mut lines = text.lines().map(str::trim_start);
        assert!(lines.any(|line| line.starts_with(head)), "{line}: {text}");
    }
}

/// The pager gets the page, in the terminal's width, and may end before it has read all.
#[test]
fn a_page_goes_through_the_pager() {
    let with = |pager: &str| {
        let set = |command: &mut Command| {
            command.env("PAGER", pager).env_remove("LESS");
        };
        shown(60, "help operating", set)
    };
    let page = with("cat");
    assert!(
        page.contains("\nSecurity\n") && widest(&page) <= 60,
        "{page}"
    );
    let lines: Vec<String> = page.lines().map(|line| format!("+{line}")).collect();
    assert_eq!(with("sed s/^/+/").lines().collect::<Vec<_>>(), lines);
    assert_eq!(with("head -n 1"), "Operating ktally\n");
    assert_eq!(with("echo $LESS"), "FRX\n");
    assert_eq!(with("no_such_pager 2>/dev/null"), page);
}

#[test]
fn a_pipe_and_wide_have_all() {
    let text = shown(80, "list", |_| {});
    assert!(text.contains("not shown: options (--wide)\n"), "{text}");
    let whole = ktally("list").done();
    assert!(widest(&whole) > 80 && !whole.contains('…'), "{whole}");
    assert_eq!(shown(80, "list --wide", |_| {}), whole);
    // Of a terminal of no size nothing is known.
    assert_eq!(shown(0, "list", |_| {}), whole);
    // Three cells a line, none empty.
    let rows = whole.lines().filter(|line| !line.contains(" run here: "));
    for row in rows {
        let cells = row.split("  ").filter(|cell| !cell.is_empty()).count();
        assert_eq!(cells, 3, "{row}");
    }
}

#[test]
fn the_locale_has_ascii_or_utf_8() {
    for (all, ctype, lang, is_utf8) in [
        ("", "", "en_US.UTF-8", true),
        ("", "C.utf8", "C", true),
        ("C", "C.UTF-8", "C.UTF-8", false),
        ("", "de_DE", "C.UTF-8", false),
        ("", "", "", false),
    ] {
        let text = shown(60, "list", |command| {
            let locale = [("LC_ALL", all), ("LC_CTYPE", ctype), ("LANG", lang)];
            command.envs(locale);
        });
        assert_eq!(text.contains('…'), is_utf8, "{all} {ctype} {lang}: {text}");
        assert_eq!(text.contains('~'), !is_utf8, "{all} {ctype} {lang}: {text}");
    }
}

/// This number of threads sleep and wake all the time; each has its own name.
fn beside_threads<T>(number: usize, act: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for i in 0..number {
            let nap = || {
                while !is_done.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
            };
            let thread = thread::Builder::new().name(format!("kt-nap-{i}"));
            thread.spawn_scoped(scope, nap).unwrap();
        }
        let result = act();
        is_done.store(true, Ordering::Relaxed);
        result
    })
}

/// The clock above a reading.
pub fn time(text: &str) -> chrono::ParseResult<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.3f")
}

#[test]
fn readings_have_a_clock_and_fit_the_screen() {
    const LINE: &str = "run runqlat --by-comm --every 300ms --for 600ms";
    let start = Utc::now().naive_utc();
    let (text, all) = beside_threads(40, || {
        let in_zone = |command: &mut Command| {
            command.env("TZ", "KTT-12");
        };
        let all = shown(80, &format!("{LINE} --top all"), |_| {});
        (shown(80, LINE, in_zone), all)
    });
    let readings: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(readings.len(), 2, "{text}");
    for reading in readings {
        let (clock, table) = reading.split_once('\n').unwrap();
        let zone = Duration::from_secs(12 * 60 * 60);
        let time = time(clock).unwrap_or_else(|error| panic!("{error}: {text}")) - zone;
        assert!(time >= start - Duration::from_millis(1), "{text}");
        assert!(time <= Utc::now().naive_utc(), "{text}");
        assert!(table.starts_with("runqlat: "), "{text}");
        assert!((20..=22).contains(&reading.lines().count()), "{text}");
        assert!(reading.contains(" rows (--top all); "), "{text}");
    }
    let first = all.split("\n\n").next().unwrap();
    assert!(first.matches("\nkt-nap-").count() >= 40, "{all}");
    assert!(!all.contains("(--top all)"), "{all}");
}

#[test]
fn readings_follow_the_size_of_the_terminal() {
    let [mut master, slave] = terminal_of(120);
    let mut run = "run syscalls --every 300ms --for 900ms --color never".pass_to(program());
    run.stdout(slave).stderr(Stdio::null());
    let mut child = run.spawn().unwrap();
    drop(run);
    let (mut first, mut piece) = (Vec::new(), [0; 4096]);
    while !first.ends_with(b" missed\r\n") {
        let length = master.read(&mut piece).unwrap();
        first.extend_from_slice(&piece[..length]);
    }
    resize(&master, 40, 12);
    let mut rest = Vec::new();
    let _ = master.read_to_end(&mut rest);
    assert!(child.wait().unwrap().success());
    let first = String::from_utf8(first).unwrap();
    let rest = String::from_utf8(rest).unwrap();
    assert!(widest(&first) > 60, "{first}");
    let last = rest.trim().rsplit("\r\n\r\n").next().unwrap();
    assert!(widest(last) <= 40 && last.lines().count() <= 12, "{rest}");
    assert!(last.contains("missed"), "{rest}");
}

#[test]
fn a_pipe_has_all_rows_of_a_reading() {
    let text = beside_threads(40, || {
        ktally("run runqlat --by-comm --every 300ms --for 300ms").done()
    });
    assert!(text.matches("\nkt-nap-").count() >= 40, "{text}");
    assert!(!text.contains("(--top all)"), "{text}");
    let bare = ktally("run runqlat --by-comm --every 300ms --for 300ms --no-header").done();
    assert!(time(bare.lines().next().unwrap()).is_err(), "{bare}");
}

/// What the program says on a terminal, which may be stopped by Ctrl-S.
fn told(columns: u16, line: &str, is_stopped: bool) -> String {
    let [mut master, slave] = terminal_of(columns);
    if is_stopped {
        tcflow(&slave, FlowArg::TCOOFF).unwrap();
    }
    let mut command = line.pass_to(program());
    command.stdout(Stdio::null()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut all = Vec::new();
    if !is_stopped {
        let _ = master.read_to_end(&mut all);
    }
    let mut status = None;
    wait_until("ktally ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{line}");
    let _ = master.read_to_end(&mut all);
    String::from_utf8(all).unwrap()
}

#[test]
fn a_long_run_shows_its_progress_on_a_terminal() {
    const LINE: &str = "run failures --for 2100ms --comm kt-nobody";
    let text = told(80, LINE, false);
    let lines: Vec<&str> = text.split('\r').collect();
    let [before, shown @ .., rest, after] = &lines[..] else {
        panic!("{text:?}");
    };
    assert_eq!(shown.len(), 3, "{text:?}");
    for (i, line) in shown.iter().enumerate() {
        assert_eq!(*line, format!("counting: {i}s of 2s 100ms; Ctrl-C ends it"));
    }
    assert!(
        rest.len() == shown[2].len() && rest.trim().is_empty(),
        "{text:?}"
    );
    assert_eq!([*before, *after], ["", ""]);
}

#[test]
fn no_other_run_shows_it() {
    for line in [
        "run failures --for 1s --comm kt-nobody",
        "run failures --for 3s --comm kt-nobody -- true",
    ] {
        let text = told(80, line, false);
        assert!(!text.contains("counting"), "{line}: {text:?}");
    }
    let ended = ktally("run failures --for 2s --comm kt-nobody").good();
    assert_eq!(ended.stderr, "");
}

/// As its output, it delays nothing.
#[test]
fn progress_does_not_wait_for_a_terminal() {
    const LINE: &str = "run failures --for 2s --comm kt-nobody";
    assert_eq!(told(80, LINE, true), "");
    // Neither does it fill a narrow one.
    let text = told(20, LINE, false);
    assert!(text.split('\r').all(|line| line.len() < 20), "{text:?}");
    assert!(
        text.contains("\rcounting: 1s of 2s;"[..20].trim_end()),
        "{text:?}"
    );
}
