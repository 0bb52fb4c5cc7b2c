//! Addresses of code, and stacks of them: frames with `;` between them, root first.

use std::borrow::Cow;
use std::rc::Rc;

use caps::Capability;

use super::registry::Decode;
use super::symbols::{self, Symbols};
use crate::schema::{Place, Value};

/// /proc/kallsyms has zeroes for addresses without it.
pub(super) const KERNEL_SYMBOLS: &[Capability] = &[Capability::CAP_SYSLOG];
/// For what other users' processes have mapped, and for those files.
pub(super) const PROCESSES: &[Capability] =
    &[Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// An address of the kernel's code: `vfs_read+0x1c`.
pub(super) struct Ksym(pub(super) Rc<Symbols>);

impl Decode for Ksym {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        self.0.kernel(number).map(Cow::Owned)
    }

    fn notation(&self, number: u128) -> Option<String> {
        Some(format!("{number:#x}"))
    }

    fn comes_and_goes(&self) -> bool {
        true
    }

    fn capabilities(&self) -> &'static [Capability] {
        KERNEL_SYMBOLS
    }
}

/// A `struct tally_kstack`: the kernel's functions.
pub(super) struct Kstack(pub(super) Rc<Symbols>);

impl Decode for Kstack {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        let stack = place.bytes(bytes).unwrap_or_default();
        let frames = if raw {
            symbols::raw(stack)
        } else {
            self.0.kernel_stack(stack)
        };
        Some(Value::Text(frames.into()))
    }

    fn comes_and_goes(&self) -> bool {
        true
    }

    fn capabilities(&self) -> &'static [Capability] {
        KERNEL_SYMBOLS
    }
}

/// A `struct tally_ustack`: a process's functions.
pub(super) struct Ustack(pub(super) Rc<Symbols>);

impl Decode for Ustack {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        let stack = place.bytes(bytes).unwrap_or_default();
        let frames = if raw {
            symbols::raw(symbols::process(stack)?.1)
        } else {
            self.0.user_stack(stack)
        };
        Some(Value::Text(frames.into()))
    }

    fn comes_and_goes(&self) -> bool {
        true
    }

    fn capabilities(&self) -> &'static [Capability] {
        PROCESSES
    }
}
