//! Completes or undoes what killed commands left. A process that has the lock knows
//! that the maker of a half-made instance is dead, because its lock was released.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::layout::{InstanceName, META, STOPPED, names};
use super::lock::Instances;
use super::meta::Meta;
use super::pinned::if_found;
use super::state::State;
use super::{access, dispatch, remove};

impl Instances {
    /// Failures are recorded in `notes`; the rest is still cleaned up.
    pub(super) fn recover(&mut self) -> Result<()> {
        for name in names(&self.path)? {
            let hidden = name.strip_prefix('+').unwrap_or_default();
            if let Ok(name) = InstanceName::parse(hidden.trim_end_matches("+old")) {
                let done = self.finish_making(&name);
                self.note_failure(&name, done);
            }
        }
        for name in self.names()? {
            let done = self.finish_removing(&name);
            self.note_failure(&name, done);
        }
        self.restore_modes();
        Ok(())
    }

    fn finish_making(&mut self, name: &InstanceName) -> Result<()> {
        // An instance that was moved aside is the current one if its place is empty.
        let (folder, aside) = (self.folder(name), self.aside(name));
        if aside.exists() && !folder.exists() {
            fs::rename(&aside, &folder)?;
        }
        for leftover in [aside, self.hidden(name)] {
            if leftover.exists() {
                self.remove_leftover(name, &leftover)?;
            }
        }
        Ok(())
    }

    /// Lets the programs of the instance in place count, then removes the leftover.
    fn remove_leftover(&mut self, name: &InstanceName, leftover: &Path) -> Result<()> {
        let folder = self.folder(name);
        let is_counting = |folder: &Path| State::open(folder).is_ok_and(|it| !it.is_stopping);
        let was = if is_counting(&folder) {
            dispatch::run_programs_of(&folder, &Meta::open(&folder)?)?;
            "being replaced"
        } else if leftover.join(META).exists() && !is_counting(leftover) {
            "half removed"
        } else {
            "being made"
        };
        let left = remove::remove_hidden(leftover, &folder)?;
        self.note_killed(name, was, "removed what it left");
        self.note_strangers(&left);
        Ok(())
    }

    fn finish_removing(&mut self, name: &InstanceName) -> Result<()> {
        let folder = self.folder(name);
        let Some(state) = if_found(State::open(&folder))? else {
            // An instance with foreign pins is taken apart in its place.
            let left = remove::take_apart(&folder, &folder)?;
            self.note_killed(name, "half removed", "removed the rest");
            self.note_strangers(&left);
            return Ok(());
        };
        if state.is_stopping && !folder.join(STOPPED).exists() {
            remove::stop(&folder)?;
            self.note_killed(name, "being stopped", "stopped it");
        }
        Ok(())
    }

    /// Restores the mode of bpffs after the last instance with readers is gone.
    pub(super) fn restore_modes(&mut self) {
        if let Err(error) = access::restore(self) {
            let note = format!("failed to restore the mode of bpffs: {error:#}");
            self.notes.push(note);
        }
    }

    pub(super) fn note_strangers(&mut self, left: &[PathBuf]) {
        let paths = left.iter().map(|path| path.display());
        let notes = paths.map(|path| format!("left `{path}` alone: ktally did not pin it"));
        self.notes.extend(notes);
    }

    fn note_killed(&mut self, name: &InstanceName, was: &str, done: &str) {
        self.notes.push(format!(
            "instance `{name}` was {was} by a ktally that was killed; {done}"
        ));
    }

    fn note_failure(&mut self, name: &InstanceName, done: Result<()>) {
        if let Err(error) = done {
            self.notes.push(format!(
                "failed to put instance `{name}` in order: {error:#}"
            ));
        }
    }
}
