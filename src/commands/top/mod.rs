//! `ktally top`: the live view. One thread draws and takes keys; another one reads.

mod bpf;
mod reader;
mod record;
mod replay;
mod screen;
mod source;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use self::bpf::Texts;
use self::reader::Reader;
use self::record::{Record, new_file};
use self::screen::Screen;
use self::source::Wanted;
use super::{keep_capabilities, note, style};
use crate::cli::{Chosen, Exit, Global, TopArgs};
use crate::error::usage;
use crate::host;
use crate::names::local;
use crate::tui::{Effect, Event, Glyphs, Host, Own, State};

/// A tick of the clock: also how often a state that changed by itself is drawn.
const TICK: Duration = Duration::from_secs(1);

pub(super) fn top(global: &Global, args: &TopArgs, tallies: Vec<Chosen>) -> Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(usage(
            "`top` needs a terminal; `ktally run NAME --every 1s` prints readings",
        ));
    }
    if let Some(file) = &args.replay {
        return replay::replay(global, args, file);
    }
    let file = args.record.as_deref().map(Record::create).transpose()?;
    let every = args.every.unwrap_or(Duration::from_secs(1));
    let names = Texts::default();
    let wanted = Wanted::of(args, tallies, names.shared())?;
    let (events, queue) = mpsc::channel();
    let reader = Reader::start(wanted, (every, file.is_some()), events.clone())?;
    let (tabs, overview) = reader.tabs()?;
    let screen = Screen::open(events)?;
    let state = State::new(host_facts(), own(None), tabs, every).with_overview(overview);
    let mut state = on(&screen, state, global, args)?;
    if args.bpf {
        state.say(bpf::MEASURES);
    }
    let mut live = Live { reader, file };
    if let Some(file) = &mut live.file {
        file.append(&state.record())?;
    }
    let state = watch(state, screen, &queue, (&names, &mut live))?;
    for line in state.last_words() {
        note(&line);
    }
    Ok(Exit::Done)
}

/// With what the terminal and the user's flags say.
fn on(screen: &Screen, state: State, global: &Global, args: &TopArgs) -> Result<State> {
    let style = style(global);
    let glyphs = Glyphs {
        ascii: style.ascii || args.ascii,
    };
    Ok(state.on(screen.size()?, glyphs, style.color))
}

/// What is watched and recorded.
struct Live {
    reader: Reader,
    file: Option<Record>,
}

/// Takes events until the user quits.
fn watch(
    mut state: State,
    mut screen: Screen,
    queue: &Receiver<Event>,
    (names, live): (&Texts, &mut Live),
) -> Result<State> {
    keep_capabilities(names.host.capabilities(state.tables()));
    let mut since = (Instant::now(), own(None));
    loop {
        screen.draw(&state)?;
        let first = match queue.recv_timeout(TICK) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Tick(own(Some(since))),
            Err(RecvTimeoutError::Disconnected) => return Ok(state),
        };
        state.set_time(SystemTime::now());
        for event in newest(std::iter::once(first).chain(queue.try_iter())) {
            let effect = state.next(event, names);
            if live.act(&mut state, effect, &mut screen)? {
                screen.close();
                return Ok(state);
            }
        }
        live.reader.show(state.current());
        if since.0.elapsed() >= TICK {
            let now = own(Some(since));
            since = (Instant::now(), now);
            state.next(Event::Tick(now), names);
        }
    }
}

/// What came meanwhile is drawn at once. A reading has all that was counted, so the
/// newest of a tab stands for those before it.
fn newest(events: impl Iterator<Item = Event>) -> Vec<Event> {
    let mut newest: Vec<Event> = Vec::new();
    for event in events {
        if let Event::Reading(tab, _) = event {
            newest.retain(|it| !matches!(it, Event::Reading(other, _) if *other == tab));
        }
        newest.push(event);
    }
    newest
}

impl Live {
    fn act(&mut self, state: &mut State, effect: Effect, screen: &mut Screen) -> Result<bool> {
        match effect {
            Effect::Interval(every) => self.reader.read_every(every),
            Effect::Record(line) => self.record(state, &line),
            effect => return act(state, effect, screen),
        }
        Ok(false)
    }

    /// The view goes on where the recording cannot.
    fn record(&mut self, state: &mut State, line: &str) {
        let written = self.file.as_mut().map(|file| file.append(line));
        if let Some(Err(error)) = written {
            self.file = None;
            state.end_recording(&format!("the recording ends here: {error:#}"));
        }
    }
}

/// Does what changes more than the state. Whether that is the end.
fn act(state: &mut State, effect: Effect, screen: &mut Screen) -> Result<bool> {
    match effect {
        Effect::None | Effect::Interval(_) | Effect::Record(_) | Effect::Seek(_) => {}
        Effect::Quit => return Ok(true),
        Effect::Suspend => screen.suspend()?,
        Effect::Redraw => screen.redraw()?,
        Effect::Mouse(is_wanted) => screen.take_mouse(is_wanted)?,
        Effect::Export(name, text) => match export(&name, &text) {
            Ok(()) => state.say(&format!("wrote {name}")),
            Err(error) => state.say(&format!("failed to write {name}: {error:#}")),
        },
        Effect::Copy(text) => {
            screen.copy(&text)?;
            state.say(&text);
        }
    }
    Ok(false)
}

fn export(name: &str, text: &str) -> Result<()> {
    let file = new_file(Path::new(name));
    let mut file = file.with_context(|| format!("failed to create {name}"))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn host_facts() -> Host {
    Host {
        name: host::name(),
        kernel: host::kernel_release(),
        cpus: host::cpus(),
        clock: |time| local(time)[11..19].to_owned(),
    }
}

/// What this process takes, and took up to another instant.
fn own(since: Option<(Instant, Own)>) -> Own {
    let used = host::own_cpu_time();
    let cpu = since.map_or(0.0, |(then, before)| {
        let passed = then.elapsed().as_secs_f64();
        let now = (used.saturating_sub(before.used)).as_secs_f64() / passed * 100.0;
        // It does not jump.
        0.8 * before.cpu + 0.2 * now
    });
    Own {
        now: SystemTime::now(),
        used,
        cpu,
        memory: host::own_memory(),
    }
}
