//! Stacks as labels: which look the same, and what is shown of them where.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{HostNames, symbols};
use crate::host;
use crate::schema::{Decoder, Label};

/// The first stack that was shown with these frames.
#[derive(Default)]
pub(super) struct Stacks(RefCell<HashMap<(Decoder, String), Vec<u8>>>);

impl Stacks {
    /// More stay as they are: rows that look the same.
    const MOST: usize = 64 << 10;
}

impl HostNames {
    /// Whether a label is a stack of frames.
    pub fn is_stack(label: &Label) -> bool {
        label.decoder.as_ref().is_some_and(Decoder::is_stack)
    }

    /// Makes stacks equal that look the same: the first one stands for all, in
    /// every reading.
    pub fn unify(&self, label: &Label, key: &mut [u8]) {
        let (Some(decoder), false) = (&label.decoder, self.raw) else {
            return;
        };
        let Some(stack) = label.place.bytes(key) else {
            return;
        };
        let Some(frames) = self.stack(decoder, stack) else {
            return;
        };
        let mut stacks = self.stacks.0.borrow_mut();
        let name = (decoder.clone(), frames);
        match stacks.get(&name) {
            Some(first) => {
                let start = label.place.bit_offset / 8;
                if let Some(stack) = key.get_mut(start..start + first.len()) {
                    stack.copy_from_slice(first);
                }
            }
            None if stacks.len() < Stacks::MOST => {
                stacks.insert(name, stack.to_vec());
            }
            None => {}
        }
    }

    /// The same as `of` for a column that people read: a process with its name,
    /// while it lives; of a stack, the frames nearest to what was running.
    pub fn brief(&self, label: &Label, key: &[u8]) -> String {
        const FRAMES: usize = 3;
        let text = self.of(label, key).to_string();
        if label.decoder == Some(Decoder::Pid) && !self.raw {
            let name = text.parse().ok().and_then(host::process_name);
            return match name {
                Some(name) => format!("{text} ({name})"),
                None => text,
            };
        }
        if !Self::is_stack(label) {
            return text;
        }
        match text.rmatch_indices(';').nth(FRAMES - 1) {
            Some((cut, _)) => format!("..{}", &text[cut..]),
            None => text,
        }
    }

    /// Whether a label can only be told of a process that somebody looked at
    /// while it lived.
    pub fn needs_its_process(label: &Label) -> bool {
        label.decoder == Some(Decoder::Ustack)
    }

    /// Takes note of what a process has mapped while it lives, so that its
    /// stacks have names later; `address` is where it was running.
    pub fn remember(&self, pid: u32, address: u64) {
        if !self.raw {
            self.symbols.remember(pid, address);
        }
    }

    /// The frames of a stack, root first; `None` for what is no stack.
    pub(super) fn stack(&self, decoder: &Decoder, stack: &[u8]) -> Option<String> {
        match decoder {
            Decoder::Kstack if self.raw => Some(symbols::raw(stack)),
            Decoder::Kstack => Some(self.symbols.kernel_stack(stack)),
            Decoder::Ustack if self.raw => Some(symbols::raw(symbols::process(stack)?.1)),
            Decoder::Ustack => Some(self.symbols.user_stack(stack)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Place, Tags, Type};

    fn label(size: usize, decoder: &str) -> Label {
        let mut tags = Tags::default();
        tags.add(&format!("ktally:as:{decoder}"));
        Label {
            name: String::new(),
            place: Place::whole(Type::unsigned(size)),
            decoder: tags.decoder,
            with: None,
        }
    }

    #[test]
    fn stacks_that_look_the_same_become_one() {
        let labels = HostNames::new();
        let stack = label(16, "kstack");
        // No kernel has code so low: their names are numbers.
        let mut first = [8u64, 9].map(u64::to_ne_bytes).concat();
        let mut other = [8u64, 10].map(u64::to_ne_bytes).concat();
        let before = (first.clone(), other.clone());
        labels.unify(&stack, &mut first);
        labels.unify(&stack, &mut other);
        assert_eq!((first, other.clone()), before);
        assert_eq!(labels.of(&stack, &other).to_string(), "0xa;0x8");
        // The user's frames of nobody are all unknown.
        let stack = label(24, "ustack");
        let nobody = u64::from(u32::MAX);
        let mut first = [nobody, 8, 9].map(u64::to_ne_bytes).concat();
        let mut other = [nobody, 8, 10].map(u64::to_ne_bytes).concat();
        let kept = first.clone();
        labels.unify(&stack, &mut first);
        labels.unify(&stack, &mut other);
        assert_eq!((&first, &other), (&kept, &kept));
        // Numbers are told apart.
        let mut other = [nobody, 8, 10].map(u64::to_ne_bytes).concat();
        let raw = HostNames::raw();
        raw.unify(&stack, &mut first);
        raw.unify(&stack, &mut other);
        assert_ne!(first, other);
        assert_eq!(raw.of(&stack, &other).to_string(), "0xa;0x8");
    }

    #[test]
    fn people_see_the_frames_that_were_running() {
        let labels = HostNames::raw();
        let stack = label(40, "kstack");
        let key = |frames: &[u64]| {
            let mut key: Vec<u8> = frames.iter().flat_map(|ip| ip.to_ne_bytes()).collect();
            key.resize(40, 0);
            key
        };
        assert_eq!(labels.brief(&stack, &key(&[])), "");
        assert_eq!(labels.brief(&stack, &key(&[1, 2, 3])), "0x3;0x2;0x1");
        assert_eq!(labels.brief(&stack, &key(&[1, 2, 3, 4])), "..;0x3;0x2;0x1");
        assert_eq!(labels.brief(&label(4, "errno"), &[2, 0, 0, 0]), "2");
    }
}
