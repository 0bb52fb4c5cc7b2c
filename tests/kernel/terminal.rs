//! What a terminal of 80 columns shows.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libbpf_rs::MapType;
use unicode_width::UnicodeWidthStr;

use crate::common::{Args, ktally, program};
use crate::support::{maps, terminal_of};

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

#[test]
fn a_pipe_and_wide_have_all() {
    let text = shown(80, "list", |_| {});
    assert!(text.contains("; not shown: options (--wide)\n"), "{text}");
    let whole = ktally("list").done();
    assert!(widest(&whole) > 80 && !whole.contains('…'), "{whole}");
    assert_eq!(shown(80, "list --wide", |_| {}), whole);
    // Of a terminal of no size nothing is known.
    assert_eq!(shown(0, "list", |_| {}), whole);
    // Four cells a line, none empty.
    let rows = whole.lines().filter(|line| !line.contains(" run here: "));
    for row in rows {
        let cells = row.split("  ").filter(|cell| !cell.is_empty()).count();
        assert_eq!(cells, 4, "{row}");
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
