//! `ktally attach` and `ktally detach`: counting that needs no process.

use std::io::Write;

use anyhow::{Context, Result, anyhow};

use super::report::{Counted, Report};
use super::{note, output, plural, warn, warn_of};
use crate::cli::{AttachArgs, DetachArgs, Exit, Global};
use crate::error::usage;
use crate::names::HostNames;
use crate::render::Format;
use crate::snapshot::{Query, Reading};
use crate::tally::{
    AttachOptions, Instance, InstanceName, Instances, RawOption, Tally, group_id, resolve,
    with_fields,
};

pub(super) fn attach(args: &AttachArgs, tally: &Tally, given: &[RawOption]) -> Result<Exit> {
    let name = InstanceName::parse(args.name.as_deref().unwrap_or(&tally.name))?;
    let by: Vec<&str> = args.by.iter().flatten().map(String::as_str).collect();
    let given = with_fields(&tally.schema, given, &by);
    let resolved = resolve(&tally.schema.options, &given)?;
    let query = Query {
        by: args.by.clone(),
        ..Query::default()
    };
    query.check(&tally.tables(&resolved)?, &HostNames::new())?;
    let options = AttachOptions {
        options: resolved,
        given,
        max_rows: args.loading.max_rows,
        readable_by: args.readable_by.as_deref().map(group_id).transpose()?,
        replace: args.replace,
        rotatable: args.rotatable,
    };
    warn_of(tally);
    tally.remarks().iter().for_each(|it| note(it));
    let mut folder = Instances::open(waiting)?;
    let attached = folder.attach(&name, tally, &options);
    tell(&mut folder);
    folder.close();
    let attached = attached?;
    attached.warnings.iter().for_each(|warning| warn(warning));
    let verb = match attached.replaced {
        true => "replaced",
        false => "attached",
    };
    note(&format!(
        "{verb} `{name}`: {} in the kernel; see `ktally read {name}`, and end it with `ktally detach {name}`",
        plural(attached.programs as u64, "program")
    ));
    Ok(Exit::Done)
}

pub(super) fn detach(global: &Global, args: &DetachArgs) -> Result<Exit> {
    if args.all
        && (global.output.is_of_metrics() || matches!(global.output, Format::Json | Format::Svg))
    {
        return Err(usage(
            "`--all` gives one reading per instance, and JSON is one object; use `-o jsonl`",
        ));
    }
    let names = args.instances.iter().map(|name| InstanceName::parse(name));
    let mut names: Vec<InstanceName> = names.collect::<Result<_>>()?;
    let mut folder = Instances::open(waiting)?;
    tell(&mut folder);
    if args.all {
        names = folder.names()?;
        if names.is_empty() {
            note("nothing is attached");
        }
    }
    let mut exit = Exit::Done;
    let mut failures = Vec::new();
    for name in &names {
        let detached = detach_one(global, args, name, &mut folder);
        tell(&mut folder);
        match detached {
            Ok(Exit::Done) => {}
            Ok(incomplete) => exit = incomplete,
            Err(error) => failures.push(error),
        }
    }
    folder.close();
    match failures.len() {
        0 => Ok(exit),
        1 => Err(failures.remove(0)),
        count => {
            let each = failures.iter().map(|error| format!("{error:#}"));
            let each = each.collect::<Vec<_>>().join("; ");
            Err(anyhow!("{count} instances are not detached: {each}"))
        }
    }
}

/// Stops an instance, writes its final reading, and then removes it.
fn detach_one(
    global: &Global,
    args: &DetachArgs,
    name: &InstanceName,
    folder: &mut Instances,
) -> Result<Exit> {
    let mut instance = Instance::open(name)?;
    let counted = Counted::of(&instance, &args.view.selection.fields())?;
    let mut report = Report::new(global, &args.view, vec![counted])?;
    instance.stop(folder)?;
    let shown = instance
        .read()
        .and_then(|reading| write_last(reading, &mut report));
    shown.map_err(|error| {
        // As text, because a closed pipe is an error here.
        anyhow!(
            "instance `{name}` has stopped, but its last reading is not written, so it stays for `ktally detach {name}`: {error:#}"
        )
    })?;
    if args.keep {
        note(&format!(
            "`{name}` counts no more, and can be read until `ktally detach {name}`"
        ));
    } else {
        instance.remove(folder)?;
    }
    report.warn_at_end(0);
    Ok(report.exit())
}

/// Writes a reading before its counts are removed.
pub(super) fn write_last(reading: Reading, report: &mut Report) -> Result<()> {
    let (mut out, time) = (output::out(), reading.time);
    report.show(vec![reading], &mut out)?;
    out.flush()
        .and_then(|()| output::finish_reading(time))
        .context("failed to write")
}

pub(super) fn waiting() {
    note("another ktally is attaching or detaching; waiting for it");
}

/// Reports what killed commands left, and what is not ktally's.
pub(super) fn tell(folder: &mut Instances) {
    folder.notes.drain(..).for_each(|what| note(&what));
}
