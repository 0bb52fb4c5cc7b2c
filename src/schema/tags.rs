//! The declaration tags that `ktally.bpf.h` leaves in BTF: `ktally:WHAT:TEXT`.

use super::unit::Unit;

/// The tags of one declaration. Tags of other programs, and of later versions
/// of ktally, are passed over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tags {
    /// `TALLY(summary)`.
    pub tally: Option<String>,
    /// `OPTION(...)`: its help.
    pub option: Option<String>,
    /// `TABLE(...)` and its kin: its help.
    pub table: Option<String>,
    /// `COUNTER(help)`.
    pub counter: Option<String>,
    /// `GAUGE(help)`.
    pub gauge: Option<String>,
    /// `HISTOGRAM(help)`.
    pub histogram: Option<String>,
    /// `AS(decoder)`.
    pub decoder: Option<Decoder>,
    /// `UNIT(unit)`.
    pub unit: Option<Unit>,
    /// `HIDDEN`.
    pub hidden: bool,
    /// `WITH(option)`.
    pub with: Option<String>,
    /// `OPTIONAL`.
    pub optional: bool,
    /// `ALTERNATIVE(group)`.
    pub alternative: Option<String>,
    /// `ATTACH(target)`.
    pub attach: Option<String>,
    /// On the flag that says whether a command is followed.
    pub follow: bool,
    /// On the PID namespace whose numbers are shown.
    pub pids: bool,
    /// On the counter of events that the kernel did not report.
    pub gaps: bool,
}

/// How a number or some bytes are shown: `AS(...)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decoder {
    /// A process name: text up to the first NUL.
    Comm,
    /// A process id.
    Pid,
    /// A user id, shown as the user's name.
    Uid,
    /// A group id, shown as the group's name.
    Gid,
    /// A system call's number on the running architecture.
    Syscall,
    /// A positive error number: `ENOENT`.
    Errno,
    /// A signal's number: `SIGTERM`.
    Signal,
    /// How a task sleeps: `interruptible`.
    State,
    /// A softirq's vector: `NET_RX`.
    Softirq,
    /// A CPU's number.
    Cpu,
    /// The number of a kernel object, shown as it is typed.
    Id,
    /// Zero is false.
    Bool,
    /// In base 16.
    Hex,
    /// The cgroup of this id, shown as its path.
    Cgroup,
    /// An IPv4 address: four bytes in network order.
    Ipv4,
    /// An IPv6 address, or an IPv4 address that is mapped into one.
    Ip,
    /// A TCP or UDP port, in network order.
    Port,
    /// A network interface's index, shown as its name.
    Ifindex,
    /// A network namespace's inode number, shown as its name if it has one.
    Netns,
    /// A block device's number as the kernel has it, shown as its name.
    Dev,
    /// An address of the kernel's code: `vfs_read+0x1c`.
    Ksym,
    /// Nanoseconds by the kernel's monotonic clock, shown as a date and time.
    Time,
    /// A `struct tally_kstack`: the kernel's functions, root first.
    Kstack,
    /// A `struct tally_ustack`: a process's functions, root first.
    Ustack,
    /// A name from the running kernel's enum of this name.
    Enum(String),
    /// The names of the bits that are set, from the running kernel's enum of
    /// this name.
    Flags(String),
    /// One that this version does not know: shown by its C type.
    Unknown(String),
}

/// `AS(NAME)`, but for those that take another name.
const NAMES: [(&str, Decoder); 25] = [
    ("comm", Decoder::Comm),
    ("pid", Decoder::Pid),
    ("uid", Decoder::Uid),
    ("gid", Decoder::Gid),
    ("syscall", Decoder::Syscall),
    ("errno", Decoder::Errno),
    ("signal", Decoder::Signal),
    ("state", Decoder::State),
    ("softirq", Decoder::Softirq),
    ("cpu", Decoder::Cpu),
    ("id", Decoder::Id),
    ("bool", Decoder::Bool),
    ("hex", Decoder::Hex),
    ("cgroup", Decoder::Cgroup),
    ("ipv4", Decoder::Ipv4),
    ("ip", Decoder::Ip),
    // The same bytes: an IPv4 address in them is shown as one.
    ("ipv6", Decoder::Ip),
    ("port", Decoder::Port),
    ("ifindex", Decoder::Ifindex),
    ("netns", Decoder::Netns),
    ("dev", Decoder::Dev),
    ("time", Decoder::Time),
    ("ksym", Decoder::Ksym),
    ("kstack", Decoder::Kstack),
    ("ustack", Decoder::Ustack),
];

impl Decoder {
    fn from_tag(text: &str) -> Self {
        // Formatters of C write `enum : state`, for all they know a bitfield.
        let text: String = text.split_whitespace().collect();
        let known = NAMES.into_iter().find(|(name, _)| *name == text);
        match (known, text.split_once(':')) {
            (Some((_, decoder)), _) => decoder,
            (None, Some(("enum", name))) => Self::Enum(name.to_owned()),
            (None, Some(("flags", name))) => Self::Flags(name.to_owned()),
            _ => Self::Unknown(text),
        }
    }

    /// Every decoder that a tag can name; `NAME` stands for another name.
    pub fn all() -> Vec<&'static str> {
        let names = NAMES.iter().map(|(name, _)| *name);
        names.chain(["enum:NAME", "flags:NAME"]).collect()
    }

    /// As the tag wrote it.
    pub fn tag(&self) -> String {
        match self {
            Self::Enum(name) => format!("enum:{name}"),
            Self::Flags(name) => format!("flags:{name}"),
            _ => self.name().to_owned(),
        }
    }

    /// Whether it shows a stack: frames with `;` between them, root first.
    pub fn is_stack(&self) -> bool {
        matches!(self, Self::Kstack | Self::Ustack)
    }

    /// A scalar key's column is named so.
    pub fn name(&self) -> &str {
        match self {
            Self::Enum(name) | Self::Flags(name) | Self::Unknown(name) => name,
            _ => {
                let known = NAMES.iter().find(|(_, decoder)| decoder == self);
                known.map_or("", |(name, _)| name)
            }
        }
    }
}

impl Tags {
    /// Whether they say that something is counted here.
    pub fn is_metric(&self) -> bool {
        self.counter.is_some() || self.gauge.is_some() || self.histogram.is_some()
    }

    /// Takes in one tag's text.
    pub fn add(&mut self, tag: &str) {
        let Some((what, text)) = tag
            .strip_prefix("ktally:")
            .and_then(|rest| rest.split_once(':'))
        else {
            return;
        };
        let help = || Some(text.to_owned());
        match what {
            "tally" => self.tally = help(),
            "option" => self.option = help(),
            "table" => self.table = help(),
            "counter" => self.counter = help(),
            "gauge" => self.gauge = help(),
            "histogram" => self.histogram = help(),
            "as" => self.decoder = Some(Decoder::from_tag(text)),
            "unit" => self.unit = Some(Unit::from_tag(text)),
            "hidden" => self.hidden = true,
            "with" => self.with = help(),
            "optional" => self.optional = true,
            "alternative" => self.alternative = help(),
            "attach" => self.attach = help(),
            "follow" => self.follow = true,
            "pids" => self.pids = true,
            "gaps" => self.gaps = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_understood_and_strangers_passed_over() {
        let mut tags = Tags::default();
        for tag in [
            "ktally:counter:calls: all",
            "ktally:as:enum:state",
            "user",
            "ktally:",
            "ktally:new:x",
            "",
        ] {
            tags.add(tag);
        }
        assert_eq!(tags.counter.as_deref(), Some("calls: all"));
        assert_eq!(tags.decoder, Some(Decoder::Enum("state".into())));
        tags.add("ktally:as:enum : state");
        assert_eq!(tags.decoder, Some(Decoder::Enum("state".into())));
        tags.add("ktally:as:tomorrow");
        assert_eq!(tags.decoder.as_ref().map(Decoder::name), Some("tomorrow"));
    }
}
