//! `ktally events`: what this kernel offers to count, and what each event carries.

use anyhow::Result;
use wildmatch::WildMatch;

use super::{note, output, style};
use crate::cli::{EventsArgs, Exit, Global};
use crate::error::Usage;
use crate::query::{Known, Offer, known_events, offers};
use crate::render::{Column, Format, write_rows};
use crate::schema::KernelBtf;
use crate::tally::with_world;

pub(super) fn events(global: &Global, args: &EventsArgs) -> Result<Exit> {
    let how = (global.output, style(global));
    let pattern = args.pattern.as_deref().unwrap_or_default();
    let found = with_world(&[pattern], |world| offers(pattern, args.at_return, world));
    match found {
        Ok(offers) => write_rows(&mut output::out(), how, &offer_columns(), &offers)?,
        // Only of an event there is a return.
        Err(error) if args.at_return || !error.is::<Usage>() => return Err(error),
        Err(error) => {
            let kernel = KernelBtf::load()?;
            let events = matching(pattern, &kernel)?;
            if events.is_empty() {
                return Err(error);
            }
            write_rows(&mut output::out(), how, &event_columns(), &events)?;
            if global.output == Format::Table && pattern.is_empty() {
                note("these are tracepoints; `ktally events 'vfs_*'` has functions as well");
            }
        }
    }
    Ok(Exit::Done)
}

/// Without a pattern, tracepoints alone: there are tens of thousands of functions.
fn matching(pattern: &str, kernel: &KernelBtf) -> Result<Vec<Known>> {
    if pattern.contains(['*', '?']) {
        let wanted = WildMatch::new(pattern);
        return known_events(kernel, true, &|name| wanted.matches(name));
    }
    known_events(kernel, false, &|name| name.contains(pattern))
}

fn event_columns<'e>() -> [Column<'e, &'e Known>; 3] {
    type Of<'e> = Column<'e, &'e Known>;
    [
        Of::text("event", |it| it.name.as_str().into()),
        Of::text("kind", |it| it.kind.into()),
        Of::text("arguments", |it| it.arguments.as_str().into()),
    ]
}

fn offer_columns<'o>() -> [Column<'o, &'o Offer>; 3] {
    type Of<'o> = Column<'o, &'o Offer>;
    [
        Of::text("value", |it| it.expression.as_str().into()),
        Of::text("type", |it| it.c_type.as_str().into()),
        Of::text("shown_as", |it| it.shown.as_str().into()),
    ]
}
