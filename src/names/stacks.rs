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

/// A stack of addresses: of the kernel (`struct tally_kstack`), or of a process
/// (`struct tally_ustack`).
pub(super) struct Stack {
    pub(super) symbols: Rc<Symbols>,
    pub(super) is_of_process: bool,
}

impl Decode for Stack {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        let stack = place.bytes(bytes).unwrap_or_default();
        let frames = match (raw, self.is_of_process) {
            (true, true) => symbols::raw(symbols::process(stack)?.1),
            (true, false) => symbols::raw(stack),
            (false, true) => self.symbols.user_stack(stack),
            (false, false) => self.symbols.kernel_stack(stack),
        };
        Some(Value::Text(frames.into()))
    }

    fn comes_and_goes(&self) -> bool {
        true
    }

    fn capabilities(&self) -> &'static [Capability] {
        if self.is_of_process {
            PROCESSES
        } else {
            KERNEL_SYMBOLS
        }
    }
}
