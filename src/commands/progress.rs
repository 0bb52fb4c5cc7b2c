//! The progress of a long run: a line on the terminal that is rewritten every second,
//! and erased before other output.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::output;

/// Shorter runs show none.
const SHORTEST: Duration = Duration::from_secs(2);

pub(super) struct Progress {
    /// Standard error, if it is a terminal and there is something to say.
    terminal: Option<File>,
    start: Instant,
    run_for: Duration,
    /// How wide the line may be: a longer one would wrap.
    room: usize,
    widest: Cell<usize>,
}

impl Progress {
    /// Of a run from now on.
    pub(super) fn new(run_for: Option<Duration>) -> Self {
        let run_for = run_for.unwrap_or_default();
        let size = terminal_size::terminal_size_of(io::stderr());
        let is_shown = run_for >= SHORTEST && io::stderr().is_terminal();
        Self {
            // It must not wait where the terminal's output is stopped.
            terminal: is_shown.then(|| output::terminal(2)).flatten(),
            start: Instant::now(),
            run_for,
            room: size.map_or(usize::MAX, |(width, _)| usize::from(width.0) - 1),
            widest: Cell::new(0),
        }
    }

    /// Writes the line, and returns whether there is a terminal for it.
    pub(super) fn show(&self) -> bool {
        let passed = self.start.elapsed().min(self.run_for);
        self.write(&text(passed, self.run_for));
        self.terminal.is_some()
    }

    /// Erases the line.
    pub(super) fn hide(&self) {
        if self.widest.get() > 0 {
            self.write("");
            self.widest.set(0);
            self.write("");
        }
    }

    /// Overwrites the line. Errors are ignored, as everywhere on stderr.
    fn write(&self, text: &str) {
        if let Some(mut terminal) = self.terminal.as_ref() {
            let text = &text[..text.len().min(self.room)];
            let width = self.widest.get().max(text.len());
            self.widest.set(width);
            let _ = terminal.write_all(format!("\r{text:width$}").as_bytes());
        }
    }
}

/// Times as `--for` takes them.
fn text(passed: Duration, run_for: Duration) -> String {
    let passed = humantime::format_duration(Duration::from_secs(passed.as_secs()));
    let all = humantime::format_duration(run_for);
    format!("counting: {passed} of {all}; Ctrl-C ends it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_typed() {
        let text = |passed, all| text(Duration::from_millis(passed), Duration::from_millis(all));
        assert_eq!(text(0, 2500), "counting: 0s of 2s 500ms; Ctrl-C ends it");
        assert_eq!(
            text(61_999, 90_000),
            "counting: 1m 1s of 1m 30s; Ctrl-C ends it"
        );
    }
}
