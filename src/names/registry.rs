//! Every decoder: what `AS(...)` calls it, and how it shows numbers.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use anyhow::Result;
use caps::Capability;

use super::{HostNames, cgroup, dev, enums, errno, ip, net, plain, signal, softirq, stacks};
use super::{state, syscall, time, users};
use crate::schema::{Decoder, Place, Value};

/// A name, and what makes the decoder for one [`HostNames`]. `NAME` stands for
/// the name of an enum, which the second argument is.
type Line = (&'static str, fn(&HostNames, &str) -> Rc<dyn Decode>);

/// Also listed in `ktally.bpf.h`, for those who write tallies.
const REGISTRY: [Line; 27] = [
    ("bool", make::<plain::Bool>),
    ("cgroup", make::<cgroup::Cgroups>),
    ("comm", make::<plain::Comm>),
    ("cpu", make::<plain::Number>),
    ("dev", make::<dev::Dev>),
    ("enum:NAME", |_, of| Rc::new(enums::Enum::new(of, false))),
    ("errno", make::<errno::Errno>),
    ("flags:NAME", |_, of| Rc::new(enums::Enum::new(of, true))),
    ("gid", |_, _| Rc::new(users::Accounts::groups())),
    ("hex", make::<plain::Hex>),
    ("id", make::<plain::Number>),
    ("ifindex", make::<net::Ifindex>),
    ("ip", make::<ip::Ip>),
    ("ipv4", make::<ip::Ipv4>),
    // The same bytes: an IPv4 address in them is shown as one.
    ("ipv6", make::<ip::Ip>),
    ("kstack", stack::<false>),
    ("ksym", |names, _| Rc::new(stacks::Ksym(names.symbols()))),
    ("netns", make::<net::Netns>),
    ("pid", make::<plain::Pid>),
    ("port", make::<ip::Port>),
    ("signal", make::<signal::Signal>),
    ("softirq", make::<softirq::Softirq>),
    ("state", make::<state::State>),
    ("syscall", make::<syscall::Syscall>),
    ("time", make::<time::Time>),
    ("uid", |_, _| Rc::new(users::Accounts::users())),
    ("ustack", stack::<true>),
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
    REGISTRY.into_iter().find(|(name, _)| *name == tag)
}

/// Every decoder that a tag can name; `NAME` stands for another name.
pub fn decoders() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(name, _)| *name)
}

/// Whether this version has the decoder.
pub fn is_known(decoder: &Decoder) -> bool {
    find(decoder).is_some()
}

/// One that is not known leaves all to the C type.
pub(super) fn decoder(names: &HostNames, decoder: &Decoder) -> Rc<dyn Decode> {
    match find(decoder) {
        Some((_, make)) => make(names, decoder.name()),
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

    /// What people read in the place of all this; `raw` where names are not wanted.
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
