//! `ktally rotate`: an instance goes on in empty tables, and prints the full ones.

use anyhow::{Result, anyhow};

use super::attach::{tell, waiting, write_last};
use super::report::{Counted, Report};
use super::{note, output};
use crate::cli::{Exit, Global, RotateArgs};
use crate::error::usage;
use crate::tally::{Instance, InstanceName, Instances};

pub(super) fn rotate(global: &Global, args: &RotateArgs) -> Result<Exit> {
    if args.keep.is_some() && global.output_file.is_none() {
        return Err(usage(
            "`--keep` keeps files; name the newest one with `--output-file FILE`",
        ));
    }
    let name = InstanceName::parse(&args.instance)?;
    let mut folder = Instances::open(waiting)?;
    tell(&mut folder);
    let mut instance = Instance::open(&name)?;
    let counted = Counted::of(&instance, &args.view.selection.fields())?;
    let mut report = Report::new(global, &args.view, vec![counted])?;
    let mut rotated = instance.rotate(&folder)?;
    if args.keep.is_some() && rotated.was_cut && output::has_reading(rotated.reading.time) {
        instance.has_printed(&folder)?;
        rotated = instance.rotate(&folder)?;
    }
    if rotated.was_cut {
        note(&format!(
            "the last rotation of `{name}` was cut short; this is its reading"
        ));
    }
    write_last(rotated.reading, &mut report).map_err(|error| {
        // As text, because a closed pipe is an error here.
        anyhow!(
            "`{name}` goes on in empty tables, but the reading is not written, so it stays for the next `ktally rotate {name}`: {error:#}"
        )
    })?;
    instance.has_printed(&folder)?;
    folder.close();
    report.warn_at_end(0);
    Ok(report.exit())
}
