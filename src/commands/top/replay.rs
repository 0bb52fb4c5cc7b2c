//! `ktally top --replay`: a recording in the place of what counts now. It needs no
//! privileges.

use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::screen::Screen;
use super::{TICK, act, host_facts, on, own};
use crate::cli::{Exit, Global, TopArgs};
use crate::commands::keep_capabilities;
use crate::names::local;
use crate::recording::{Dictionary, Recording};
use crate::tui::{Effect, Event, HISTORY, Host, Overview, Replay, State, Tab};

pub(super) fn replay(global: &Global, args: &TopArgs, path: &Path) -> Result<Exit> {
    keep_capabilities(Vec::new());
    let recording = Recording::open(path)?;
    let (events, queue) = mpsc::channel();
    let screen = Screen::open(events)?;
    let file = path.file_name().unwrap_or(path.as_os_str());
    let state = state_of(&recording, &file.to_string_lossy());
    let state = on(&screen, state, global, args)?;
    let mut player = Player {
        names: Rc::clone(&recording.names),
        recording,
        since: Instant::now(),
    };
    player.play(state, screen, &queue)?;
    Ok(Exit::Done)
}

fn state_of(recording: &Recording, file: &str) -> State {
    let head = &recording.head;
    let host = Host {
        name: head.host.clone(),
        kernel: head.kernel.clone(),
        cpus: head.cpus,
        ..host_facts()
    };
    let tabs = Tab::all_of(recording);
    let absent = head.absent.clone().filter(|_| tabs.len() > 1);
    let overview = absent.map(|absent| Overview::new(&tabs[1..], absent).1);
    let every = Duration::from_secs_f64(head.every);
    let stamp = |time| local(time)[..19].replace('T', " ");
    let replay = Replay::new(file, recording.frames.clone(), stamp);
    let state = State::new(host, own(None), tabs, every).replaying(replay);
    state.with_overview(overview)
}

struct Player {
    recording: Recording,
    names: Rc<Dictionary>,
    /// Since when the frame is shown.
    since: Instant,
}

impl Player {
    /// Takes keys, and goes on by itself, until the user quits.
    fn play(
        &mut self,
        mut state: State,
        mut screen: Screen,
        queue: &Receiver<Event>,
    ) -> Result<()> {
        self.go(&mut state, 0)?;
        loop {
            screen.draw(&state)?;
            let next = state.replay().and_then(Replay::next);
            let left = next.map_or(TICK, |pause| pause.saturating_sub(self.since.elapsed()));
            match queue.recv_timeout(left) {
                Ok(event) => match state.next(event, &*self.names) {
                    Effect::Seek(frame) => self.go(&mut state, frame)?,
                    effect => {
                        if act(&mut state, effect, &mut screen)? {
                            screen.close();
                            return Ok(());
                        }
                    }
                },
                Err(RecvTimeoutError::Timeout) => {
                    let due = next.and(state.replay());
                    if let Some((frame, spent)) = due.map(|it| it.reached(self.since.elapsed())) {
                        let since = self.since + spent;
                        self.go(&mut state, frame)?;
                        self.since = since;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Shows this frame.
    fn go(&mut self, state: &mut State, frame: usize) -> Result<()> {
        let names = Rc::clone(&self.names);
        let is_next = self.recording.follows(frame, HISTORY);
        if !is_next {
            state.next(Event::Rewind, &*names);
        }
        self.recording.read(frame, HISTORY, |tab, interval| {
            state.next(Event::Interval(tab, interval), &*names);
        })?;
        state.next(Event::Frame(frame, is_next), &*names);
        self.since = Instant::now();
        Ok(())
    }
}
