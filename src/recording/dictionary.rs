//! Names that were recorded, in the place of those that a host knows.

use std::cell::RefCell;
use std::collections::HashMap;

use anyhow::{Result, anyhow};

use crate::schema::{Decoder, Label, Names, Place, Value, parse_number};

/// What a label shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) shown: Word,
    /// To people, if that is something else.
    pub(super) described: Option<String>,
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Word {
    Number(i128),
    Text(String),
}

/// What decoders begin with that have words for bytes which mean nothing else.
pub(super) const WORD: &str = "word:";

/// The names of each decoder, by the bytes that they stand for.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    names: RefCell<HashMap<Decoder, HashMap<Vec<u8>, Name>>>,
}

impl Word {
    pub(super) fn of(value: &Value<'_>) -> Self {
        match value.integer() {
            Some(number) => Self::Number(number),
            None => Self::Text(value.to_string()),
        }
    }

    pub(crate) fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Number(number) => match u128::try_from(*number) {
                Ok(number) => Value::Uint(number),
                Err(_) => Value::Int(*number),
            },
            Self::Text(text) => Value::Text(text.clone().into()),
        }
    }
}

impl Dictionary {
    pub(super) fn insert(&self, decoder: &Decoder, bytes: &[u8], name: Name) {
        let mut names = self.names.borrow_mut();
        if !names.contains_key(decoder) {
            names.insert(decoder.clone(), HashMap::new());
        }
        let Some(names) = names.get_mut(decoder) else {
            return;
        };
        match names.get_mut(bytes) {
            Some(known) => *known = name,
            None => _ = names.insert(bytes.to_vec(), name),
        }
    }

    fn find<T>(&self, decoder: &Decoder, bytes: &[u8], what: impl Fn(&Name) -> T) -> Option<T> {
        let names = self.names.borrow();
        names.get(decoder)?.get(bytes).map(what)
    }
}

/// The bytes of a label: of a bitfield, those of its number.
pub(super) fn bytes_of(place: &Place, key: &[u8]) -> Vec<u8> {
    match place.bits {
        None => place.bytes(key).unwrap_or_default().to_vec(),
        Some(_) => place.raw(key).unwrap_or_default().to_le_bytes().to_vec(),
    }
}

impl Names for Dictionary {
    fn name<'a>(&self, decoder: &Decoder, place: &Place, bytes: &'a [u8]) -> Option<Value<'a>> {
        let bytes = bytes_of(place, bytes);
        self.find(decoder, &bytes, |name| name.shown.value())
    }

    fn number(&self, decoder: &Decoder, text: &str) -> Result<Option<i128>> {
        // Behind a word there is no number.
        if parse_number(text).is_some() && !decoder.tag().starts_with(WORD) {
            return Ok(None);
        }
        let names = self.names.borrow();
        let mut known = names.get(decoder).into_iter().flatten();
        let is_it = |name: &Name| matches!(&name.shown, Word::Text(shown) if shown == text);
        let found = known.find(|(_, name)| is_it(name));
        let (bytes, _) = found.ok_or_else(|| anyhow!("no row shows `{text}`"))?;
        let mut number = [0; 16];
        let size = bytes.len().min(16);
        number[..size].copy_from_slice(&bytes[..size]);
        Ok(Some(i128::from_le_bytes(number)))
    }

    fn joins(&self, label: &Label) -> bool {
        label.is_stack()
    }

    /// A name that is asked for may be in a later reading.
    fn comes_and_goes(&self, label: &Label) -> bool {
        label.decoder.is_some()
    }

    fn described<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        let described = label.decoder.as_ref().and_then(|decoder| {
            let bytes = bytes_of(&label.place, key);
            self.find(decoder, &bytes, |name| name.described.clone())?
        });
        match described {
            Some(text) => Value::Text(text.into()),
            None => self.of(label, key),
        }
    }
}
