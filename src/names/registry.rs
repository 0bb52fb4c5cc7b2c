//! Every decoder: what `AS(...)` calls it, and how it shows numbers.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use anyhow::Result;
use caps::Capability;

use super::{HostNames, cgroup, dev, enums, errno, ip, net, plain, signal, softirq, stacks};
use super::{state, syscall, time, users};
use crate::schema::{Decoder, Place, Value};

/// A name, what is shown, and what makes the decoder for one [`HostNames`]. `NAME`
/// stands for the name of an enum, which the second argument is.
type Line = (
    &'static str,
    &'static str,
    fn(&HostNames, &str) -> Rc<dyn Decode>,
);

/// Also listed in `ktally.bpf.h`, for those who write tallies.
const REGISTRY: [Line; 28] = [
    ("bool", "true or false", make::<plain::Bool>),
    (
        "cgroup",
        "a cgroup: its unit, container, pod or path",
        make::<cgroup::Cgroups>,
    ),
    (
        "comm",
        "the name of a thread or program",
        make::<plain::Comm>,
    ),
    ("cpu", "a CPU", make::<plain::Number>),
    ("dev", "a block device", make::<dev::Dev>),
    ("enum:NAME", "a value of the kernel's enum", |_, of| {
        Rc::new(enums::Enum::new(of, false))
    }),
    ("errno", "an error", make::<errno::Errno>),
    ("flags:NAME", "flags of the kernel's enum", |_, of| {
        Rc::new(enums::Enum::new(of, true))
    }),
    ("gfp", "how memory is allocated", make::<enums::Gfp>),
    ("gid", "a group", |_, _| Rc::new(users::Accounts::groups())),
    ("hex", "a number", make::<plain::Hex>),
    (
        "id",
        "the id of a map, program or link",
        make::<plain::Number>,
    ),
    ("ifindex", "a network interface", make::<net::Ifindex>),
    ("ip", "an IP address", make::<ip::Ip>),
    ("ipv4", "an IP address", make::<ip::Ipv4>),
    // The same bytes: an IPv4 address in them is shown as one.
    ("ipv6", "an IP address", make::<ip::Ip>),
    ("kstack", "functions of the kernel", stack::<false>),
    ("ksym", "a function of the kernel", |names, _| {
        Rc::new(stacks::Ksym(names.symbols()))
    }),
    ("netns", "a network namespace", make::<net::Netns>),
    (
        "pid",
        "the number of a process or thread",
        make::<plain::Pid>,
    ),
    ("port", "a port", make::<ip::Port>),
    ("signal", "a signal", make::<signal::Signal>),
    (
        "softirq",
        "the kind of software interrupt",
        make::<softirq::Softirq>,
    ),
    ("state", "how the task sleeps", make::<state::State>),
    ("syscall", "a system call", make::<syscall::Syscall>),
    ("time", "a date and time", make::<time::Time>),
    ("uid", "a user", |_, _| Rc::new(users::Accounts::users())),
    ("ustack", "functions of a program", stack::<true>),
];

fn make<D: Decode + Default + 'static>(_: &HostNames, _: &str) -> Rc<dyn Decode> {
    Rc::new(D::default())
}

fn stack<const IS_OF_PROCESS: bool>(names: &HostNames, _: &str) -> Rc<dyn Decode> {
    Rc::new(stacks::Stack {
        symbols: names.symbols(),
        is_of_process: IS_OF_PROCESS,
    })
}

fn find(decoder: &Decoder) -> Option<Line> {
    let tag = match decoder.tag().split_once(':') {
        Some((family, _)) => &format!("{family}:NAME"),
        None => decoder.tag(),
    };
    REGISTRY.into_iter().find(|(name, ..)| *name == tag)
}

/// Every decoder that a tag can name; `NAME` stands for another name.
pub fn decoders() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(name, ..)| *name)
}

/// Whether this version has the decoder.
pub fn is_known(decoder: &Decoder) -> bool {
    find(decoder).is_some()
}

/// What it shows, in a few words.
pub(crate) fn help(decoder: &Decoder) -> Option<&'static str> {
    find(decoder).map(|(_, help, _)| help)
}

/// One that is not known leaves all to the C type.
pub(super) fn decoder(names: &HostNames, decoder: &Decoder) -> Rc<dyn Decode> {
    match find(decoder) {
        Some((.., make)) => make(names, decoder.name()),
        None => Rc::new(plain::Number),
    }
}

/// How one decoder shows a number or some bytes, and reads what was typed. The
/// defaults leave all to the C type.
pub(super) trait Decode {
    fn name(&self, _number: u128) -> Option<Cow<'static, str>> {
        None
    }

    /// How a number without a name is written, and every number where names are
    /// not wanted (`--raw`).
    fn notation(&self, _number: u128) -> Option<String> {
        None
    }

    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        let number = place.raw(bytes)?;
        let name = if raw { None } else { self.name(number) };
        let shown = name.or_else(|| self.notation(number).map(Cow::Owned))?;
        Some(Value::Text(shown))
    }

    /// The text for people, if it is another one; `raw` where names are not wanted.
    fn described(&self, _number: u128, _raw: bool) -> Option<String> {
        None
    }

    /// The numbers that have names, where these are the same on every host.
    fn numbers(&self) -> Range<u128> {
        0..0
    }

    fn names(&self) -> Vec<String> {
        let names = self.numbers().filter_map(|number| self.name(number));
        let names = names.filter(|name| !is_number(name));
        names.map(Cow::into_owned).collect()
    }

    /// What can be typed for it on this host, to complete a line.
    fn offers(&self) -> Vec<String> {
        self.names()
    }

    fn number(&self, name: &str) -> Option<i128> {
        let is_it = |number: &u128| self.name(*number).as_deref() == Some(name);
        self.numbers().find(is_it).map(|number| number as i128)
    }

    /// The number that a text stands for; `None` for a number, which is read as
    /// its C type is, and for a name that is not known.
    fn parse(&self, text: &str) -> Result<Option<i128>> {
        Ok(if is_number(text) {
            None
        } else {
            self.number(text)
        })
    }

    /// Whether a number without a name may get one later.
    fn comes_and_goes(&self) -> bool {
        false
    }

    /// Takes note of everything that has a name now, for when it is removed;
    /// `false` where names do not depend on that.
    fn look(&self) -> bool {
        false
    }

    /// What it takes to look names up.
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }
}

/// Names never begin like that.
pub(super) fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}
