#![allow(clippy::unwrap_used)]

mod errors;
mod plans;
mod random;
mod records;

use std::process::Command;
use std::sync::OnceLock;

use super::event::{Event, World};
use super::field::{Base, Field, Read, Stored};
use super::resolve::resolve;
use super::scope::Scope;
use crate::schema::KernelBtf;

/// The types of `kinds.c`, as clang describes them.
fn kinds() -> KernelBtf {
    static OBJECT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = OBJECT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/query/tests/kinds.c");
        let compiled = Command::new("clang")
            .args(["-target", "bpf", "-g", "-O1", "-c", source, "-o"])
            .arg(folder.path().join("kinds.o"))
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{compiled:?}");
        folder
    });
    KernelBtf::from_path(&folder.path().join("kinds.o")).unwrap()
}

/// A host that has all kinds of programs.
fn world(kernel: &KernelBtf) -> World<'_> {
    World {
        kernel,
        lacks: &|_| None,
        format: &|_, _| Ok(FORMAT.to_owned()),
    }
}

const FORMAT: &str = "name: thing\nID: 7\nformat:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:u64 bytes;\toffset:32;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:40;\tsize:4;\tsigned:0;
\tfield:__u8 saddr[28];\toffset:44;\tsize:28;\tsigned:0;
\tfield:const char * label;\toffset:72;\tsize:8;\tsigned:0;
\tfield:void * place;\toffset:80;\tsize:8;\tsigned:0;
\tfield:dev_t dev;\toffset:88;\tsize:4;\tsigned:0;
\tfield:short port;\toffset:92;\tsize:2;\tsigned:1;
\tfield:__be16 sport;\toffset:94;\tsize:2;\tsigned:0;
\tfield:unsigned long args[6];\toffset:96;\tsize:48;\tsigned:0;
\tfield:pid_t pids[2];\toffset:144;\tsize:8;\tsigned:1;
\tfield:__data_loc int[] many;\toffset:152;\tsize:4;\tsigned:0;

print fmt: \"%s\", REC->comm
";

fn find(event: &str, text: &str, decoder: Option<&str>) -> anyhow::Result<Field> {
    let kernel = kinds();
    let world = world(&kernel);
    let event = Event::parse(event, false, &world)?;
    resolve(&Scope::new(&world, event)?, text, decoder)
}

/// The way in one line: the base, offsets with a `>` for each pointer that is read, how
/// it is read, and its type and decoder.
fn shown(field: &Field) -> String {
    let base = match field.base {
        Base::Argument(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let offsets: Vec<String> = field.offsets.iter().map(u32::to_string).collect();
    let read = match field.read {
        Read::Word => String::new(),
        Read::Number => format!(" {}", field.size),
        other => format!(" {other:?}"),
    };
    let bits = match (field.shift, field.bits) {
        (_, 0) => String::new(),
        (shift, bits) => format!(" {shift}:{bits}"),
    };
    let way = match field.read {
        Read::Word => String::new(),
        _ => format!("+{}", offsets.join(">")),
    };
    let stored = match field.stored {
        Stored::Unsigned(size) => format!("u{}", 8 * size),
        Stored::Signed(size) => format!("s{}", 8 * size),
        Stored::Text(size) => format!("text{size}"),
        Stored::Bytes(size) => format!("bytes{size}"),
        other => format!("{other:?}"),
    };
    let decoder = field.decoder.as_ref().map(|it| format!(" {it}"));
    format!(
        "{base}{way}{read}{bits} {stored}{}",
        decoder.unwrap_or_default()
    )
}

/// `EXPRESSION [as DECODER] => the way`, each line.
fn check(event: &str, lines: &str) {
    let mut number = 0;
    let mut wrong = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, expected) = line.split_once(" => ").unwrap();
        let (text, decoder) = match text.split_once(" as ") {
            Some((text, decoder)) => (text, Some(decoder)),
            None => (text, None),
        };
        let found = match find(event, text, decoder) {
            Ok(field) => shown(&field),
            Err(error) => format!("{error:#}"),
        };
        if found != expected {
            wrong.push(format!("{text} => {found}"));
        }
        number += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(number > 0);
}

#[test]
fn expressions_lead_to_their_values() {
    check(
        "event",
        "
        thing => 0 u64 hex
        number => 1 0:32 s32
        flag => 2 0:8 u8 bool
        reason => 3 0:32 u32 enum:reason
        thing.comm => 0+0 String text16
        thing->number => 0+16 4 0:32 s32
        thing.pointer => 0+24 8 u64 hex
        thing.pointer[0] => 0+24>0 8 s64
        thing.pointer[3] => 0+24>24 8 s64
        thing.parent => 0+32 8 u64 hex
        thing.parent.up.up.up.up.comm => 0+32>8>8>8>8>16 String text16
        thing.parent.comm => 0+32>16 String text16
        thing.parent.name.text => 0+32>40>0 String text64
        thing.both => 0+40 8 u64
        thing.low => 0+40 4 u32
        thing.high => 0+44 4 u32
        thing.half[1] => 0+46 2 u16 port
        thing.half.1 => 0+46 2 u16 port
        thing.one => 0+48 1 0:1 u8
        thing.four => 0+48 1 1:4 u8
        thing.twelve => 0+48 4 5:12 u32
        thing.minus => 0+50 1 1:3 s8
        thing.why => 0+50 1 4:2 u8 enum:reason
        thing.yes => 0+50 1 6:1 u8 bool
        thing.uid => 0+52 4 u32 uid
        thing.uid.val => 0+52 4 u32
        thing.refs => 0+56 4 0:32 s32
        thing.refs.refs.counter => 0+56 4 0:32 s32
        thing.state => 0+60 4 u32 enum:state
        thing.wide => 0+64 8 u64 enum:wide
        thing.dev => 0+72 4 u32 dev
        thing.gfp => 0+76 4 u32 gfp
        thing.port => 0+80 2 u16 port
        thing.address => 0+84 4 u32 ipv4
        thing.address6 => 0+88 Bytes bytes16 ipv6
        thing.address6.in6_u.words[3] => 0+100 4 u32
        thing.flag => 0+104 1 u8 bool
        thing.mac[5] => 0+110 1 u8
        thing.mac as hex => 0+105 Bytes bytes6 hex
        thing.mac as text => 0+105 String text6
        thing.pid => 0+112 4 0:32 s32 pid
        thing.function => 0+120 8 u64 ksym
        thing.anything => 0+128 8 u64 hex
        thing.anything as text => 0+128>0 String text64
        thing.opaque => 0+136 8 u64 hex
        thing.parents[2].comm => 0+256 String text16
        thing.parents[1].name.text => 0+232>0 String text64
        thing.several[1].comm => 0+296>16 String text16
        thing.lines[1] => 0+312 String text8
        thing.lines[1][2] => 0+314 1 0:8 s8
        thing.label => 0+320>0 String text64
        thing.label[2] => 0+320>2 1 0:8 s8
        thing.labels[1] => 0+328>8>0 String text64
        thing.next.next.number => 0+368>368>16 4 0:32 s32
        thing.large => 0+376 String text64
        thing.tiny => 0+476 1 0:8 s8
        thing.letter => 0+477 1 0:8 s8
        thing.list[4] => 0+512 8 u64
        thing[2].number => 0+976 4 0:32 s32
        comm => Context+0 Comm text16 comm
        pid => Pid u32 pid
        tid => Tid u32 pid
        ppid => Ppid u32 pid
        uid as hex => Uid u32 hex
        cgroup => Cgroup u64 cgroup
        cpu => Cpu u32 cpu
        kstack => Context+3 KernelStack KernelStack kstack
        ustack => Context+0 UserStack UserStack ustack
        current.comm => Task+8 String text16
        current.real_parent.comm => Task+0>16 String text16
        ",
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn system_calls_have_their_registers() {
    check(
        "sys_enter",
        "
        id => 1 s64
        call => Call u32 syscall
        arg0 => 0+8 8 u64
        arg3 => 0+0 8 u64
        arg1 as text => 0+16>0 String text64
        regs.si => 0+16 8 u64
        ",
    );
}

#[test]
fn arguments_of_every_kind() {
    check(
        "texts",
        "
        text => 0+0 String text64
        word => 1 u64
        word as hex => 1 u64 hex
        word as text => 1+0 String text64
        anything => 2 u64 hex
        anything as text => 2+0 String text64
        things => 3 u64 hex
        things[0].number => 3+0>16 4 0:32 s32
        things[2].parent.up.comm => 3+16>32>8>16 String text16
",
    );
    check(
        "small",
        "
        parent.name.hash => 0+32 8 u64
        uid => 1 0:32 u32 uid
        narrow => 2 0:16 s16
        letter => 3 0:8 s8
",
    );
    check(
        "many",
        "
        arg0 => 0 0:32 s32
        arg11 => 11 s64
        arg12 => `arg12` is argument 13, of at most 12 that can be read
        ",
    );
    check(
        "nameless",
        "
        arg0.comm => 0+0 String text16
        arg1 => 1 0:32 s32
        ",
    );
}

#[test]
fn events_are_of_several_kinds() {
    let kernel = kinds();
    let event = |text: &str, at_return, lacks: &dyn Fn(&Event) -> Option<String>| {
        let world = World {
            lacks,
            ..world(&kernel)
        };
        match Event::parse(text, at_return, &world) {
            Ok(event) => {
                let target = event
                    .target()
                    .map(|it| format!(" {it}"))
                    .unwrap_or_default();
                let fields = Scope::new(&world, event.clone()).unwrap();
                let retval = resolve(&fields, "retval", None).ok();
                let retval = retval
                    .map(|it| format!(" {}", shown(&it)))
                    .unwrap_or_default();
                format!("{} {}{target}{retval}", event.program(), event.section())
            }
            Err(error) => format!("{error:#}"),
        }
    };
    let all = |_: &Event| None;
    assert_eq!(event("event", false, &all), "traced tp_btf/event");
    assert_eq!(event("called", false, &all), "traced fentry/called");
    assert_eq!(
        event("called", true, &all),
        "traced fexit/called 2 0:32 s32"
    );
    assert_eq!(
        event("function:called", false, &all),
        "traced fentry/called"
    );
    let probes =
        |event: &Event| (!event.section().starts_with('k')).then(|| "no fentry".to_owned());
    assert_eq!(event("called", false, &probes), "probed kprobe/called");
    assert_eq!(
        event("called", true, &probes),
        "probed kretprobe/called Return 0:32 s32"
    );
    let none = |event: &Event| Some(format!("no {}", event.section().split('/').next().unwrap()));
    let refused = "function `called` cannot be counted here: no fentry, and no kprobe";
    assert_eq!(event("called", false, &none), refused);
    assert_eq!(event("tracepoint:a:b", false, &all), "plain tracepoint/a/b");
    assert_eq!(
        event("uprobe:/a:b:c", false, &all),
        "probed uprobe uprobe:/a:b:c"
    );
    assert_eq!(
        event("uprobe:bash:f", true, &all),
        "probed uretprobe uretprobe:bash:f Return u64"
    );
    assert_eq!(
        event("cpu-clock@99", false, &all),
        "plain perf_event cpu-clock@99"
    );
    let refuses = |event: &Event| Some(format!("no {}", event.name()));
    let refused = "event `uprobe:bash:f`: no f";
    assert_eq!(event("uprobe:bash:f", false, &refuses), refused);
    for (text, at_return, words) in [
        ("tracepoint:a", false, "write it as tracepoint:GROUP:NAME"),
        (
            "tracepoint:a:../b",
            false,
            "write it as tracepoint:GROUP:NAME",
        ),
        ("uprobe:a", false, "write it as uprobe:PATH:FUNCTION"),
        ("uprobe::f", false, "write it as uprobe:PATH:FUNCTION"),
        ("event", true, "has no return; --return is for functions"),
        ("cpu-clock@9", true, "has no return"),
        ("function:event", false, "no event named `event`"),
        ("a$b", false, "no `$`"),
        (
            "caled",
            false,
            "no event named `caled`; did you mean `called`?",
        ),
        (&"a".repeat(121), false, "at most 120 letters"),
    ] {
        let error = event(text, at_return, &all);
        assert!(error.contains(words), "{text}: {error}");
    }
}
