//! Random values of random tracepoints: the verifier takes every one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use ktally::cli;
use ktally::tally::Session;

use crate::common::{items, ktally};
use crate::support::amount;

/// Numbers that a seed decides (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Values of an event, by what they are shown as.
fn values(event: &str) -> Vec<(String, String)> {
    let listed = ktally(["events", event, "-o", "json"]).json();
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
    let values = items(&listed).iter();
    let values = values.map(|it| (text(it, "value"), text(it, "shown_as")));
    let is_none = |shown: &str| shown.starts_with("write ") || shown == "not a value";
    values.filter(|(_, shown)| !is_none(shown)).collect()
}

#[test]
fn the_verifier_takes_random_queries() {
    let seed = RandomState::new().build_hasher().finish();
    let mut numbers = Numbers(seed);
    let listed = ktally(["events", "-o", "json"]).json();
    let tracepoints: Vec<&str> = items(&listed)
        .iter()
        .map(|it| it["event"].as_str().unwrap())
        .collect();
    let (mut loaded, mut most) = (0, 0);
    while loaded < amount(30).max(5) {
        let event = *numbers.of(&tracepoints);
        let values = values(event);
        let mut by: Vec<&str> = (0..1 + numbers.below(4))
            .map(|_| &*numbers.of(&values).0)
            .collect();
        by.sort_unstable();
        by.dedup();
        let mut query = format!("count {event} --by {}", by.join(","));
        let number = &numbers.of(&values).0;
        let part = [
            String::new(),
            format!(" --where {number}!=1"),
            format!(" --sum {number}"),
            format!(" --max {number}"),
            format!(" --histogram {number}:3"),
        ];
        query += numbers.of(&part[..]).as_str();
        match cli::find(query.as_ref(), &[]) {
            Ok(tally) => {
                let verified = Session::verify(&tally, &[]);
                let verified =
                    verified.unwrap_or_else(|error| panic!("seed {seed}: {query}: {error:#}"));
                most = verified.iter().map(|it| it.1).max().unwrap().max(most);
                loaded += 1;
            }
            // Text has no sum, and keys have limits.
            Err(error) => {
                let words = format!("{error:#}");
                let is_due = [
                    "not a number",
                    "256",
                    "write a whole number",
                    "is a `",
                    "two columns",
                    "no number to compare",
                ];
                assert!(
                    is_due.iter().any(|due| words.contains(due)),
                    "seed {seed}: {query}: {words}"
                );
            }
        }
    }
    // What is not asked for is not verified.
    assert!(most < 3000, "{most} instructions, seed {seed}");
}
