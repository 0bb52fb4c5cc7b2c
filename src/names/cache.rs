//! Names that were looked up, kept for the next row.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

/// Numbers and their names; `None` for a number that has none.
#[derive(Default)]
pub(super) struct Cache(RefCell<HashMap<u32, Option<String>>>);

impl Cache {
    /// More than a host has disks or interfaces. When they are reached the
    /// cache starts again, empty.
    const MOST: usize = 4096;

    /// The name of a number of 32 bits, looked up the first time.
    pub(super) fn get(
        &self,
        number: u128,
        look_up: impl FnOnce(u32) -> Option<String>,
    ) -> Option<Cow<'static, str>> {
        let number = u32::try_from(number).ok()?;
        let mut names = self.0.borrow_mut();
        if names.len() >= Self::MOST && !names.contains_key(&number) {
            names.clear();
        }
        let name = names.entry(number).or_insert_with(|| look_up(number));
        name.clone().map(Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_once_and_the_cache_is_bounded() {
        let cache = Cache::default();
        let name = |number: u32| Some(number.to_string());
        assert_eq!(cache.get(7, name).as_deref(), Some("7"));
        assert_eq!(cache.get(7, |_| None).as_deref(), Some("7"));
        assert_eq!(cache.get(8, |_| None), None);
        assert_eq!(cache.get(8, name), None);
        for number in 0..3 * Cache::MOST as u128 {
            cache.get(number, name);
            assert!(cache.0.borrow().len() <= Cache::MOST);
        }
    }
}
