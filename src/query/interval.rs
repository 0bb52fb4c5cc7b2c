//! The time from one event to another: what its end reads, and how it finds its start.

use anyhow::{Context, Result};

use super::event::{Event, World};
use super::field::{Base, Field};
use super::plan::Query;
use super::resolve::resolve;
use super::scope::Scope;
use crate::error::usage;

/// The second event of an interval; it may be the first one again.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) event: Event,
    /// A bit for each argument that may only be copied.
    pub(crate) opaque: u32,
    /// What the program takes, as C declares it.
    pub(crate) arguments: Vec<String>,
    /// What the two events have in common: as the first and as the second one read it.
    pub(crate) pairs: [Field; 2],
}

/// What is read when it ends.
const AT_END: &str = "to.";

/// The value that every interval has.
pub(super) const TIME: &str = "time";

/// What the expressions of a query mean: at its event, and when an interval ends.
pub(super) struct Scopes<'w> {
    pub(super) start: Scope<'w>,
    end: Option<Scope<'w>>,
}

impl<'w> Scopes<'w> {
    pub(super) fn new(query: &Query, world: &World<'w>) -> Result<Self> {
        // Of an interval, --return belongs to the event of --to.
        let at_return = query.at_return && query.to.is_none();
        let start = Scope::new(world, Event::parse(&query.event, at_return, world)?)?;
        let Some(to) = &query.to else {
            return Ok(Self { start, end: None });
        };
        let event = Event::parse(to, query.at_return, world).context("--to")?;
        if event != start.event && event.own_section() == start.event.own_section() {
            return Err(usage(format!(
                "--to: `{to}` is a timer as the event of --from is; an interval has one timer"
            )));
        }
        let end = Some(Scope::new(world, event)?);
        Ok(Self { start, end })
    }

    /// What `to.EXPR` says is read when an interval ends, all else when it begins.
    pub(super) fn field(&self, text: &str, decoder: Option<&str>) -> Result<Field> {
        match (&self.end, text.strip_prefix(AT_END)) {
            (Some(end), Some(expression)) => Ok(Field {
                name: text.to_owned(),
                at_end: true,
                ..resolve(end, expression, decoder)?
            }),
            _ => resolve(&self.start, text, decoder),
        }
    }

    /// A number that is added up, and its unit: of an interval, when it ends.
    pub(super) fn value(&self, text: &str) -> Result<(Field, Option<&'static str>)> {
        if self.end.is_none() || text.starts_with(AT_END) {
            return Ok((self.field(text, None)?, None));
        }
        if text != TIME {
            return Err(usage(format!(
                "`{text}`: numbers of an interval are added up when it ends; write `{TIME}`, or \
                 `{AT_END}EXPR` for what the event of --to has"
            )));
        }
        let time = Field {
            decoder: None,
            at_end: true,
            ..Field::of_base(TIME, Base::Time, 8, "")
        };
        Ok((time, Some("ns")))
    }

    /// `--per EXPR` is what both events have, `--per EXPR,to.EXPR` what each of them has.
    pub(super) fn end(&self, per: Option<&str>) -> Result<Option<End>> {
        let Some(scope) = &self.end else {
            return Ok(None);
        };
        let per = per.unwrap_or("task");
        let [at_start, at_end] = match per.split_once(',') {
            None => [per, per],
            Some((first, second)) => match second.strip_prefix(AT_END) {
                Some(second) => [first, second],
                None => {
                    return Err(usage(format!(
                        "--per `{per}`: write what the event of --to has as `{AT_END}EXPR`"
                    )));
                }
            },
        };
        Ok(Some(End {
            event: scope.event.clone(),
            opaque: scope.opaque(),
            arguments: scope.declared(),
            pairs: [
                pair(&self.start, at_start).context("--per, at --from")?,
                Field {
                    at_end: true,
                    ..pair(scope, at_end).context("--per, at --to")?
                },
            ],
        }))
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
