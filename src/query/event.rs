//! What can be counted: `sched_switch`, `vfs_read`, `tracepoint:tcp:tcp_probe`,
//! `uprobe:bash:readline`, `cpu-clock@99`.

use anyhow::Result;

use crate::error::{unknown_text, usage};
use crate::schema::KernelBtf;

/// An event, and the kind of program for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A tracepoint with its arguments.
    Tracepoint(String),
    /// A function of the kernel: when it is called, or when it returns.
    Function {
        name: String,
        at_return: bool,
        /// By a kprobe, where the kernel has no fentry.
        is_probed: bool,
    },
    /// A tracepoint with the record that it makes for perf: group and name.
    Record(String, String),
    /// A function of a program or a library.
    User {
        path: String,
        function: String,
        at_return: bool,
    },
    /// A timer on each CPU.
    Clock(String),
}

/// What the kernel has, and this host.
pub struct World<'w> {
    /// The types of the kernel.
    pub kernel: &'w KernelBtf,
    /// Why this event cannot be counted.
    pub lacks: &'w dyn Fn(&Event) -> Option<String>,
    /// The `format` of a tracepoint's record, of tracefs: by its group and name.
    pub format: &'w dyn Fn(&str, &str) -> Result<String>,
}

/// The object has room for this many letters.
const LONGEST: usize = 120;

impl Event {
    pub(crate) fn parse(text: &str, at_return: bool, world: &World<'_>) -> Result<Self> {
        if text.len() > LONGEST || text.contains(['\0', '$']) {
            return Err(usage(format!(
                "event `{text}`: an event has at most {LONGEST} letters, and no `$`"
            )));
        }
        let event = match text.split_once(':') {
            Some(("tracepoint", rest)) => record(text, rest)?,
            Some(("uprobe", rest)) => user(text, rest, at_return)?,
            Some(("function", name)) => function(name, at_return, world)?,
            _ => match text.strip_prefix("cpu-clock@") {
                Some(hz) => Self::Clock(hz.to_owned()),
                None if world.kernel.means_tracepoint(text) => Self::Tracepoint(text.to_owned()),
                None => function(text, at_return, world)?,
            },
        };
        if at_return && !matches!(event, Self::Function { .. } | Self::User { .. }) {
            return Err(usage(format!(
                "event `{text}` has no return; --return is for functions"
            )));
        }
        match (world.lacks)(&event) {
            Some(lack) => Err(usage(format!("event `{text}`: {lack}"))),
            None => Ok(event),
        }
    }

    /// What it is called in results.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Tracepoint(name) | Self::Function { name, .. } => name,
            Self::Record(_, name) => name,
            Self::User { function, .. } => function,
            Self::Clock(_) => "cpu-clock",
        }
    }

    /// The program of the object that counts it.
    pub(crate) fn program(&self) -> &'static str {
        match self {
            Self::Tracepoint(_)
            | Self::Function {
                is_probed: false, ..
            } => "traced",
            Self::Function { .. } | Self::User { .. } => "probed",
            Self::Record(..) | Self::Clock(_) => "plain",
        }
    }

    /// Its section: the kind, and what it attaches to if that fits there.
    pub(crate) fn section(&self) -> String {
        match self {
            Self::Tracepoint(name) => format!("tp_btf/{name}"),
            Self::Function {
                name,
                at_return,
                is_probed,
            } => format!("{}/{name}", kind_of(*at_return, *is_probed)),
            Self::Record(group, name) => format!("tracepoint/{group}/{name}"),
            Self::User {
                at_return: false, ..
            } => "uprobe".to_owned(),
            Self::User { .. } => "uretprobe".to_owned(),
            Self::Clock(_) => "perf_event".to_owned(),
        }
    }

    /// Its section beside that of another event, with a name that differs from it: libbpf
    /// merges sections of the same name.
    pub(crate) fn own_section(&self) -> String {
        match self {
            Self::User { path, function, .. } => format!("{}/{path}:{function}", self.section()),
            _ => self.section(),
        }
    }

    /// How many frames of a kernel stack are those of BPF: the program, and what calls it.
    pub(crate) fn own_frames(&self) -> u32 {
        match self {
            Self::Tracepoint(_) => 3,
            Self::Function {
                is_probed: false, ..
            } => 2,
            _ => 0,
        }
    }

    /// What `ATTACH(...)` says of the others.
    pub(crate) fn target(&self) -> Option<String> {
        match self {
            Self::User { path, function, .. } => {
                Some(format!("{}:{path}:{function}", self.section()))
            }
            Self::Clock(hz) => Some(format!("cpu-clock@{hz}")),
            _ => None,
        }
    }
}

fn kind_of(at_return: bool, is_probed: bool) -> &'static str {
    match (at_return, is_probed) {
        (false, false) => "fentry",
        (true, false) => "fexit",
        (false, true) => "kprobe",
        (true, true) => "kretprobe",
    }
}

fn record(text: &str, rest: &str) -> Result<Event> {
    match rest.split_once(':') {
        Some((group, name)) if !group.is_empty() && !name.is_empty() && !rest.contains('/') => {
            Ok(Event::Record(group.to_owned(), name.to_owned()))
        }
        _ => Err(usage(format!(
            "event `{text}`: write it as tracepoint:GROUP:NAME"
        ))),
    }
}

fn user(text: &str, rest: &str, at_return: bool) -> Result<Event> {
    match rest.rsplit_once(':') {
        Some((path, function)) if !path.is_empty() && !function.is_empty() => Ok(Event::User {
            path: path.to_owned(),
            function: function.to_owned(),
            at_return,
        }),
        _ => Err(usage(format!(
            "event `{text}`: write it as uprobe:PATH:FUNCTION"
        ))),
    }
}

/// By fentry where the kernel has it, or else by a kprobe.
fn function(name: &str, at_return: bool, world: &World<'_>) -> Result<Event> {
    if !world.kernel.has_function(name) {
        let (tracepoints, functions) = (world.kernel.tracepoints(), world.kernel.functions());
        let known = tracepoints.iter().chain(&functions).map(String::as_str);
        return Err(usage(unknown_text("event", name, known)));
    }
    let event = |is_probed| Event::Function {
        name: name.to_owned(),
        at_return,
        is_probed,
    };
    let lacks = |is_probed| (world.lacks)(&event(is_probed));
    let Some(traced) = lacks(false) else {
        return Ok(event(false));
    };
    match lacks(true) {
        None => Ok(event(true)),
        Some(probed) => Err(usage(format!(
            "function `{name}` cannot be counted here: {traced}, and {probed}"
        ))),
    }
}
