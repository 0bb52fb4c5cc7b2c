//! A recording that is shown in the place of what counts now: where one is in it, and
//! how it goes on.

use std::time::{Duration, SystemTime};

use super::feed::{Feed, KEPT};
use super::keys::Action;
use super::state::{Effect, Overlay, State};
use super::tab::Tab;
use crate::recording::{Frame, Head, Recorder, Recording, TabHead};
use crate::schema::Names;
use crate::snapshot::Reading;

/// How many readings a view has beside the one that it shows.
pub(crate) const HISTORY: usize = KEPT;

/// A hole in a recording is not waited for.
const LONGEST: Duration = Duration::from_secs(5);

/// Speeds are powers of two, from 1/4 to 64.
const SPEEDS: std::ops::RangeInclusive<i32> = -2..=6;

/// Where one is in a recording.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Of the file.
    pub(super) name: String,
    pub(super) frames: Vec<Frame>,
    pub(super) at: usize,
    pub(super) is_playing: bool,
    speed: i32,
    /// A time with its day: `2026-11-28 14:02:31`.
    pub(super) stamp: fn(SystemTime) -> String,
}

impl Replay {
    /// At its beginning, playing.
    pub(crate) fn new(name: &str, frames: Vec<Frame>, stamp: fn(SystemTime) -> String) -> Self {
        Self {
            name: name.to_owned(),
            frames,
            at: 0,
            is_playing: true,
            speed: 0,
            stamp,
        }
    }

    pub(super) fn time(&self) -> SystemTime {
        self.frames[self.at].time
    }

    /// `REPLAY ×4`, or that it stands still.
    pub(super) fn word(&self) -> String {
        let speed = match self.speed {
            speed @ 0.. => format!("×{}", 1 << speed),
            speed => format!("×1/{}", 1 << -speed),
        };
        let is_over = self.at + 1 == self.frames.len();
        match self.is_playing {
            true if is_over => "REPLAY ended".to_owned(),
            true => format!("REPLAY {speed}"),
            false => format!("REPLAY {speed} paused"),
        }
    }

    /// How long after this frame the next one comes by itself.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.pause(self.at).filter(|_| self.is_playing)
    }

    fn pause(&self, frame: usize) -> Option<Duration> {
        let (now, next) = (self.frames[frame], self.frames.get(frame + 1)?);
        let pause = next.time.duration_since(now.time).unwrap_or_default();
        Some(pause.min(LONGEST).div_f64(2f64.powi(self.speed)))
    }

    /// The frame that is reached in this time, and how much of it that takes: at a high
    /// speed, frames are left out.
    pub(crate) fn reached(&self, time: Duration) -> (usize, Duration) {
        let (mut frame, mut spent) = (self.at, Duration::ZERO);
        while let Some(next) = self.pause(frame).map(|pause| spent + pause)
            && next <= time
        {
            (frame, spent) = (frame + 1, next);
        }
        (frame, spent)
    }

    /// The frame so many seconds later or earlier.
    fn after(&self, seconds: isize) -> usize {
        let span = Duration::from_secs(seconds.unsigned_abs() as u64);
        let time = if seconds < 0 {
            self.time().checked_sub(span)
        } else {
            self.time().checked_add(span)
        };
        let time = time.unwrap_or(self.time());
        let place = self.frames.partition_point(|frame| frame.time < time);
        place.min(self.frames.len() - 1)
    }

    /// The first frame at a time that was typed: `14:02`, `2026-11-28 14:02:31`, or
    /// `+30` and `-30`, in seconds.
    fn find(&self, text: &str) -> Option<usize> {
        let text = text.trim();
        if text.starts_with(['+', '-']) {
            return text.parse().ok().map(|seconds| self.after(seconds));
        }
        if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.contains([':', '-']) {
            return None;
        }
        let has_day = text.contains('-');
        let is_there = |frame: &Frame| {
            let stamp = (self.stamp)(frame.time);
            let clock = if has_day { &stamp[..] } else { &stamp[11..] };
            clock >= text
        };
        Some(
            self.frames
                .iter()
                .position(is_there)
                .unwrap_or(self.frames.len() - 1),
        )
    }
}

impl Tab {
    /// Those of a recording, with nothing read yet.
    pub(crate) fn all_of(recording: &Recording) -> Vec<Self> {
        let tabs = recording.head.tabs.iter().zip(&recording.tables);
        let tabs = tabs.map(|(tab, table)| {
            let [source, name, summary] = [&tab.source, &tab.name, &tab.summary].map(String::clone);
            Self::new(Feed::new(source, name, summary, table.clone()))
        });
        tabs.collect()
    }
}

impl State {
    /// Recording all that is read; the first line of the recording.
    pub(crate) fn record(&mut self) -> String {
        self.recorder = Some(Recorder::default());
        let tabs = self.tabs.iter().map(|tab| {
            let feed = &tab.feed;
            TabHead::new(
                (&feed.source, &feed.name, &feed.summary),
                feed.max_rows,
                &feed.table,
            )
        });
        let head = Head {
            recording: 0,
            ktally: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.name.clone(),
            kernel: self.host.kernel.clone(),
            cpus: self.host.cpus,
            every: self.every.as_secs_f64(),
            absent: self.overview.as_ref().map(|it| it.absent.clone()),
            tabs: tabs.collect(),
        };
        head.line()
    }

    /// Takes a reading; the line that records it.
    pub(super) fn take(&mut self, tab: usize, reading: Reading, names: &dyn Names) -> String {
        let feed = &mut self.tabs[tab].feed;
        let Some(interval) = feed.interval(reading) else {
            return String::new();
        };
        let line = self.recorder.as_mut().map(|recorder| {
            let before = feed.totals();
            recorder.line(tab, &feed.table, before, &interval, names)
        });
        feed.take(interval);
        line.unwrap_or_default()
    }

    /// The recording cannot go on.
    pub(crate) fn end_recording(&mut self, why: &str) {
        self.recorder = None;
        self.say(why);
    }

    /// Of a recording.
    pub(crate) fn replaying(mut self, replay: Replay) -> Self {
        self.replay = Some(replay);
        self
    }

    /// What a key does in a recording, where it does something else there.
    pub(super) fn replayed(&mut self, action: Action) -> Option<Effect> {
        let replay = self.replay.as_mut()?;
        match action {
            Action::Pause => replay.is_playing = !replay.is_playing,
            Action::Step(step @ (-1 | 1)) => {
                replay.is_playing = false;
                let last = replay.frames.len() - 1;
                let to = replay.at.saturating_add_signed(step).min(last);
                return Some(Effect::Seek(to));
            }
            Action::Step(seconds) => return Some(Effect::Seek(replay.after(seconds))),
            Action::Speed(step) => {
                let speed = replay.speed + step as i32;
                replay.speed = speed.clamp(*SPEEDS.start(), *SPEEDS.end());
            }
            Action::Time => self.overlay = Overlay::Time(String::new()),
            Action::Interval(_) => {
                self.say("a recording has its own interval; { } change the speed");
            }
            _ => return None,
        }
        Some(Effect::None)
    }

    /// A key of the line in which a time is typed.
    pub(super) fn type_time(
        &mut self,
        mut text: String,
        code: ratatui::crossterm::event::KeyCode,
    ) -> Effect {
        use ratatui::crossterm::event::KeyCode;
        match code {
            KeyCode::Esc => self.overlay = Overlay::None,
            KeyCode::Enter => {
                self.overlay = Overlay::None;
                let found = self.replay.as_ref().and_then(|replay| replay.find(&text));
                match found {
                    Some(frame) => return Effect::Seek(frame),
                    None => self.say("write a time: 14:02, 14:02:31, 2026-11-28 14:02, +30 or -30"),
                }
            }
            KeyCode::Backspace => {
                text.pop();
                self.overlay = Overlay::Time(text);
            }
            KeyCode::Char(c) => {
                text.push(c);
                self.overlay = Overlay::Time(text);
            }
            _ => {}
        }
        Effect::None
    }

    /// Forgets all readings: others follow.
    pub(super) fn rewind(&mut self) {
        for tab in &mut self.tabs {
            tab.feed.clear();
        }
    }

    /// Shows what was read of this frame.
    pub(super) fn arrive(&mut self, frame: usize, is_next: bool, names: &dyn Names) {
        let Some(replay) = &mut self.replay else {
            return;
        };
        replay.at = frame;
        self.own.now = replay.time();
        if is_next {
            self.show_reading(names);
        } else {
            self.look(names);
        }
    }

    /// The recording that is shown.
    pub(crate) fn replay(&self) -> Option<&Replay> {
        self.replay.as_ref()
    }
}
