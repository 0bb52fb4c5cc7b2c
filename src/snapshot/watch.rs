//! What is looked for in every reading: rows that meet a condition.

use anyhow::Result;

use super::column::Column;
use super::filter::Condition;
use super::{Query, Rows};
use crate::schema::{Names, Table};

/// A condition on the rows that a query selects.
#[derive(Debug)]
pub(crate) struct Watch {
    condition: Condition,
    query: Query,
}

/// The rows of a table that meet it.
#[derive(Debug, PartialEq)]
pub(crate) struct Met {
    pub(crate) rows: usize,
    /// What the first of them shows: `comm=dd calls=1,204`.
    pub(crate) first: String,
}

impl Watch {
    /// Also in rows beyond the limit of the query. An error if no row of these tables
    /// can meet it. `flag` is where the condition was given.
    pub(crate) fn new(
        (flag, condition): (&str, &Condition),
        query: &Query,
        tables: &[Table],
        names: &dyn Names,
    ) -> Result<Self> {
        condition.check(flag, tables, names)?;
        let mut query = query.clone();
        query.filters.push(condition.clone());
        query.top = Some(1);
        Ok(Self {
            condition: condition.clone(),
            query,
        })
    }

    /// `None` if no row meets it.
    pub(crate) fn look(&self, table: &Table, rows: &Rows, names: &dyn Names) -> Option<Met> {
        let field = &self.condition.field;
        let column = Column::of(table, field)?;
        let selection = self.query.apply(table, rows, names);
        let named = selection.named(names, true);
        let first = named.iter().next()?;
        let labels = selection.table.labels.iter().zip(first.names);
        let labels = labels.map(|(label, name)| format!("{}={name}", label.name));
        let number = column.shown(table, first.cells);
        let number = number.map(|number| format!("{field}={number}"));
        Some(Met {
            rows: selection.matching,
            first: labels.chain(number).collect::<Vec<_>>().join(" "),
        })
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.condition.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::names::HostNames;
    use crate::snapshot::Condition;
    use crate::snapshot::tests::{ROWS, query, rows, table};

    fn watch(condition: &str, line: &str) -> Result<Watch> {
        let condition = Condition::parse(condition).unwrap();
        Watch::new(
            ("until", &condition),
            &query(line),
            &[table()],
            &HostNames::new(),
        )
    }

    #[track_caller]
    fn assert_met(condition: &str, line: &str, met: Option<(usize, &str)>) {
        let watch = watch(condition, line).unwrap();
        let found = watch.look(&table(), &rows(&ROWS), &HostNames::new());
        let met = met.map(|(rows, first)| Met {
            rows,
            first: first.to_owned(),
        });
        assert_eq!(found, met, "{condition} {line}");
    }

    #[test]
    fn any_row_meets_it() {
        let row = |labels: &str, number: &str| format!("{labels} {number}");
        let a = row("comm=a error=EAGAIN depth=7 nice=19", "calls=30");
        assert_met("calls>29", "", Some((1, &a)));
        assert_met("calls>=20", "", Some((2, &a)));
        assert_met("calls>30", "", None);
        // Also in what --top leaves out, not in what --where does.
        assert_met("calls>=20", "top:1", Some((2, &a)));
        assert_met("calls>=20", "top:0", Some((2, &a)));
        assert_met("calls>=20", "where:comm=b", None);
        // Of groups.
        assert_met("calls>30", "by:comm", Some((1, "comm=a calls=50")));
        assert_met("calls=65", "by:", Some((1, "calls=65")));
        assert_met("level<0", "by:comm", Some((1, "comm=b level=-3")));
    }

    #[test]
    fn numbers_have_units_and_may_be_absent() {
        let b = "comm=b latency.p99=507 ns";
        assert_met("latency.p99>500ns", "by:comm", Some((1, b)));
        assert_met("latency.p99>0.6us", "by:comm", None);
        // `c` has none.
        assert_met("p99<1s", "by:comm where:comm=c", None);
        assert_met("calls<1K", "by:", Some((1, "calls=65")));
        assert_met("calls>1M", "by:", None);
        assert_met("comm=c", "by:comm", Some((1, "comm=c")));
    }

    #[test]
    fn what_no_row_can_meet_is_refused() {
        for (condition, error) in [
            ("cals>1", "no field named `cals`; did you mean `calls`?"),
            ("calls>1ms", "`1ms` is not a whole number"),
            ("latency>1ms", "`latency` is a histogram; write latency.p99"),
            ("error=ENOEN", "did you mean `ENOENT`"),
            ("comm=a,calls>5", "write --where comm=a --until calls>5"),
        ] {
            let text = watch(condition, "").unwrap_err().to_string();
            assert!(text.contains(error), "{condition}: {text}");
        }
    }
}
