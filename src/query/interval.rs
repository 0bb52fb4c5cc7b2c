//! The time from one event to another: what its end reads, and how it finds its start.

use anyhow::{Context, Result};

use super::event::{Event, World};
use super::field::{Base, Field};
use super::plan::Query;
use super::resolve::resolve;
use super::scope::Scope;
use crate::error::usage;

/// The second event of an interval.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) event: Event,
    /// A bit for each argument that may only be copied.
    pub(crate) opaque: u32,
    /// What the two events have in common: as the first and as the second one read it.
    pub(crate) pairs: [Field; 2],
}

/// What is read when it ends.
const AT_END: &str = "to.";

impl End {
    /// The value that every interval has.
    pub(super) const TIME: &str = "time";

    pub(crate) fn new(query: &Query, start: &Scope<'_>, world: &World<'_>) -> Result<Option<Self>> {
        let Some(to) = &query.to else {
            return Ok(None);
        };
        let event = Event::parse(to, query.at_return, world).context("--to")?;
        if event.own_section() == start.event.own_section() {
            return Err(usage(format!(
                "--to: `{to}` is the event of --from; an interval has two events"
            )));
        }
        let scope = Scope::new(world, event.clone())?;
        let per = query.per.as_deref().unwrap_or("task");
        let pairs = [
            pair(start, per).context("--per, at --from")?,
            pair(&scope, per).context("--per, at --to")?,
        ];
        for text in query.by.iter().chain(&query.filters) {
            if text.starts_with(AT_END) {
                return Err(usage(format!(
                    "`{text}`: rows and conditions take what the event of --from has; only \
                     --sum, --max, --min and --histogram take `to.EXPR`"
                )));
            }
        }
        let opaque = scope.opaque();
        Ok(Some(Self {
            event,
            opaque,
            pairs,
        }))
    }

    pub(super) fn unit(text: &str) -> Option<String> {
        (text == Self::TIME).then(|| "ns".to_owned())
    }

    /// A number that is added up: when it ends.
    pub(super) fn value(&self, text: &str, world: &World<'_>) -> Result<Field> {
        if text == Self::TIME {
            return Ok(Field {
                decoder: None,
                ..Field::of_base(Self::TIME, Base::Time, 8, "")
            });
        }
        let Some(expression) = text.strip_prefix(AT_END) else {
            return Err(usage(format!(
                "`{text}`: numbers of an interval are added up when it ends; write `{}`, or \
                 `{AT_END}EXPR` for what the event of --to has",
                Self::TIME
            )));
        };
        let field = resolve(&Scope::new(world, self.event.clone())?, expression, None)?;
        Ok(Field {
            name: text.to_owned(),
            ..field
        })
    }
}

/// What `--per` reads at one of the events: by default the address of the current task,
/// which no other task has while this one lives.
fn pair(scope: &Scope<'_>, per: &str) -> Result<Field> {
    if per == "task" && !scope.names().contains(&per) {
        return Ok(Field::of_base(per, Base::Task, 8, "hex"));
    }
    let field = resolve(scope, per, None)?;
    match field.stored.is_number() {
        true => Ok(field),
        false => Err(usage(format!(
            "`{per}` is a `{}`, and a number or a pointer tells intervals apart",
            field.c_type
        ))),
    }
}
