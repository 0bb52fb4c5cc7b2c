//! Rows keep their places unless the order has changed for a while.

use std::collections::{HashMap, HashSet};

/// How many rows keep their places. Those further down follow the numbers.
const STEADY: usize = 500;

/// A key of a row.
type Key = Vec<u8>;

/// The order of rows, over time.
#[derive(Debug, Default)]
pub(super) struct Order {
    shown: Vec<Key>,
    /// By the numbers of the reading before.
    before: Vec<Key>,
}

impl Order {
    /// The order for a new reading, whose rows by their numbers are `now`: two rows
    /// change places when two readings in a row say so. `is_held` leaves rows where
    /// they are, and new ones behind them.
    pub(super) fn next(&mut self, now: &[Key], is_held: bool) -> &[Key] {
        let rank = places(now);
        let before = places(&self.before);
        let mut shown: Vec<&Key> = self.shown.iter().collect();
        shown.retain(|key| rank.contains_key(key.as_slice()));
        if !is_held {
            shown.truncate(STEADY);
            shown.retain(|key| rank[key.as_slice()] < 2 * STEADY);
            let known: HashSet<&Key> = shown.iter().copied().collect();
            for key in now.iter().take(STEADY).filter(|key| !known.contains(key)) {
                let place = rank[key.as_slice()];
                let behind = shown.iter().position(|it| rank[it.as_slice()] > place);
                shown.insert(behind.unwrap_or(shown.len()), key);
            }
            settle(&mut shown, &rank, &before);
        }
        let known: HashSet<&Key> = shown.iter().copied().collect();
        shown.extend(now.iter().filter(|key| !known.contains(key)));
        self.shown = shown.into_iter().cloned().collect();
        self.before = now.to_vec();
        &self.shown
    }

    /// Forgets all: the rows are others, or are sorted by another column.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Moves each row up past those that it leads in both orders.
fn settle(shown: &mut [&Key], now: &HashMap<&[u8], usize>, before: &HashMap<&[u8], usize>) {
    let leads = |a: &Key, b: &Key| {
        let leads_before = match (before.get(a.as_slice()), before.get(b.as_slice())) {
            (Some(a), Some(b)) => a < b,
            _ => true,
        };
        leads_before && now[a.as_slice()] < now[b.as_slice()]
    };
    for row in 1..shown.len() {
        let mut place = row;
        while place > 0 && leads(shown[place], shown[place - 1]) {
            shown.swap(place, place - 1);
            place -= 1;
        }
    }
}

fn places(keys: &[Key]) -> HashMap<&[u8], usize> {
    let places = keys.iter().enumerate();
    places.map(|(place, key)| (key.as_slice(), place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<Key> {
        text.bytes().map(|byte| vec![byte]).collect()
    }

    fn text(keys: &[Key]) -> String {
        keys.iter().map(|key| char::from(key[0])).collect()
    }

    #[test]
    fn rows_change_places_when_two_readings_say_so() {
        let mut order = Order::default();
        let mut next = |now: &str| text(order.next(&keys(now), false));
        assert_eq!(next("abc"), "abc");
        assert_eq!(next("bac"), "abc");
        assert_eq!(next("abc"), "abc");
        assert_eq!(next("cab"), "abc");
        assert_eq!(next("cba"), "cab");
        assert_eq!(next("cba"), "cba");
        // A new row has its place at once, and one that is gone leaves none.
        assert_eq!(next("cdba"), "cdba");
        assert_eq!(next("db"), "db");
    }

    /// Only so many rows are compared with each other.
    #[test]
    fn rows_further_down_follow_the_numbers() {
        let many = |mask: usize| -> Vec<Key> {
            let keys = (0..4 * STEADY).map(|n| (n ^ mask).to_be_bytes().to_vec());
            keys.collect()
        };
        let mut order = Order::default();
        order.next(&many(0), false);
        let next = order.next(&many(1), false);
        assert_eq!(next[..STEADY], many(0)[..STEADY]);
        assert_eq!(next[STEADY..], many(1)[STEADY..]);
        let next = order.next(&many(1), false);
        assert_eq!(next, many(1));
    }

    #[test]
    fn a_held_order_stays() {
        let mut order = Order::default();
        order.next(&keys("abc"), false);
        for now in ["cba", "cba", "dcba"] {
            order.next(&keys(now), true);
        }
        assert_eq!(text(order.next(&keys("dcba"), true)), "abcd");
        assert_eq!(text(order.next(&keys("dcba"), false)), "dcba");
    }
}
