//! Whatever is written: it is refused, or leads somewhere.

use proptest::prelude::*;

use super::{kinds, world};
use crate::query::field::{MOST_HOPS, TEXT};
use crate::query::plan::{Plan, Query};
use crate::schema::Plain;

/// Words of the types of `kinds.c`, and others.
fn expression() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "thing|number|flag|reason|comm|pid|kstack|current|arg0",
        "parent|up|name|text|both|low|half|one|uid|refs|mac|parents|several|lines|labels|next|list",
        "[a-z_0-9]{0,6}",
    ];
    let step = prop_oneof![
        3 => word.prop_map(|word| format!(".{word}")),
        1 => (0usize..600).prop_map(|index| format!("[{index}]")),
        1 => "[-.>\\[\\]a-z0-9 =&<]{0,4}",
    ];
    let root = prop_oneof![9 => "thing|number|current|comm|reason", 1 => ".{0,8}"];
    (root, prop::collection::vec(step, 0..7)).prop_map(|(root, steps)| root + &steps.concat())
}

fn query() -> impl Strategy<Value = Query> {
    let texts = || prop::collection::vec(expression(), 0..3);
    let condition = (expression(), "=|!=|<|>=|&|~|", "[-0-9.x]{0,5}");
    let condition = condition.prop_map(|(left, sign, right)| left + &sign + &right);
    let conditions = prop::collection::vec(condition, 0..2);
    (texts(), texts(), texts(), conditions).prop_map(|(by, sum, histogram, filters)| Query {
        event: "event".to_owned(),
        by,
        sum,
        histogram,
        filters,
        ..Query::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_plan_is_within_its_limits(query in query()) {
        let kernel = kinds();
        let Ok(plan) = Plan::new(&query, &world(&kernel), &Plain) else {
            return Ok(());
        };
        let mut end = 0;
        for column in &plan.key {
            prop_assert!(column.at >= end);
            end = column.at + column.field.stored.size();
            prop_assert!(column.field.offsets.len() <= MOST_HOPS + 1);
            prop_assert!(column.field.stored.is_stack() || column.field.stored.size() <= TEXT);
            prop_assert_eq!(column.at % column.field.stored.alignment(), 0);
        }
        prop_assert!(end <= plan.key_size);
        for column in plan.key.iter().chain(&plan.values) {
            let (shift, bits) = (u32::from(column.field.shift), u32::from(column.field.bits));
            prop_assert!(shift + bits <= 64, "{:?}", column);
        }
        // What is written is C without holes.
        let c = plan.as_c();
        prop_assert_eq!(c.matches('{').count(), c.matches('}').count());
    }
}
