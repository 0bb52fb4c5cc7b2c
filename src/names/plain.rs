//! What is shown without a look at the host: text, numbers, addresses.

use super::registry::Decode;
use crate::host;
use crate::schema::{Place, Value, text};

/// A number as its C type has it: of a CPU, or of a kernel object as it is typed.
#[derive(Default)]
pub(super) struct Number;

impl Decode for Number {}

/// A process name: text up to the first NUL.
#[derive(Default)]
pub(super) struct Comm;

impl Decode for Comm {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], _raw: bool) -> Option<Value<'a>> {
        Some(text(place.bytes(bytes)?))
    }

    fn offers(&self) -> Vec<String> {
        let names = host::processes().into_iter().filter_map(host::process_name);
        names.collect()
    }
}

/// A process id: people read the name of the process behind it, while it lives.
#[derive(Default)]
pub(super) struct Pid;

impl Decode for Pid {
    fn described(&self, number: u128, raw: bool) -> Option<String> {
        let name = host::process_name(number.try_into().ok()?).filter(|_| !raw)?;
        Some(format!("{number} ({name})"))
    }

    fn offers(&self) -> Vec<String> {
        let numbers = host::processes().into_iter();
        numbers.map(|number| number.to_string()).collect()
    }
}

/// Zero is false.
#[derive(Default)]
pub(super) struct Bool;

impl Decode for Bool {
    fn show<'a>(&self, place: &Place, bytes: &'a [u8], raw: bool) -> Option<Value<'a>> {
        let number = place.raw(bytes)?;
        (!raw).then_some(Value::Bool(number != 0))
    }

    fn number(&self, name: &str) -> Option<i128> {
        name.parse::<bool>().ok().map(i128::from)
    }

    fn offers(&self) -> Vec<String> {
        ["true", "false"].map(str::to_owned).into()
    }
}

/// In base 16.
#[derive(Default)]
pub(super) struct Hex;

impl Decode for Hex {
    fn notation(&self, number: u128) -> Option<String> {
        Some(format!("{number:#x}"))
    }
}
