//! Names that were looked up, kept for the next row.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

/// Numbers and what they are called, or that they are called nothing.
#[derive(Debug)]
pub(super) struct Cache<K>(RefCell<HashMap<K, Option<String>>>);

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Eq + Hash + Copy> Cache<K> {
    /// More than a host has disks or interfaces. When they are reached the
    /// cache starts again, empty.
    const MOST: usize = 4096;

    /// The name of a number, looked up the first time.
    pub(super) fn get(&self, key: K, look_up: impl FnOnce(K) -> Option<String>) -> Option<String> {
        let mut names = self.0.borrow_mut();
        if names.len() >= Self::MOST && !names.contains_key(&key) {
            names.clear();
        }
        names.entry(key).or_insert_with(|| look_up(key)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_once_and_the_cache_is_bounded() {
        let cache = Cache::<usize>::default();
        let name = |number: usize| Some(number.to_string());
        assert_eq!(cache.get(7, name).as_deref(), Some("7"));
        assert_eq!(cache.get(7, |_| None).as_deref(), Some("7"));
        assert_eq!(cache.get(8, |_| None), None);
        assert_eq!(cache.get(8, name), None);
        for number in 0..3 * Cache::<usize>::MOST {
            cache.get(number, name);
            assert!(cache.0.borrow().len() <= Cache::<usize>::MOST);
        }
    }
}
