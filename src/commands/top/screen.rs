//! The terminal: cells and keys. It is left as it was found, whatever ends the view.

use std::io::{self, Stdout, Write};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, raise};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    self, DisableMouseCapture, EnableMouseCapture, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};

use ratatui::crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::commands::wait::Signals;
use crate::tui::{self, Event, State};

pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    has_mouse: bool,
    is_open: bool,
}

impl Screen {
    /// Takes the terminal; threads send what is typed, and what would end the program.
    pub(super) fn open(events: Sender<Event>) -> Result<Self> {
        // First of all: what ends the program must give the terminal back.
        let signals = Signals::block()?;
        let mut screen = Self {
            terminal: new_terminal().context("failed to open the terminal")?,
            has_mouse: true,
            is_open: false,
        };
        screen.enter()?;
        restore_at_panic();
        let to_keys = events.clone();
        let keys = move || while send_key(&to_keys) {};
        let builder = thread::Builder::new().name("ktally-keys".to_owned());
        builder.spawn(keys).context("failed to start a thread")?;
        let builder = thread::Builder::new().name("ktally-end".to_owned());
        let quit = move || quit_at_signal(&signals, &events);
        builder.spawn(quit).context("failed to start a thread")?;
        Ok(screen)
    }

    fn enter(&mut self) -> Result<()> {
        enable_raw_mode().context("failed to take the terminal")?;
        self.is_open = true;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        self.take_mouse(self.has_mouse)?;
        self.redraw()
    }

    pub(super) fn size(&self) -> Result<(u16, u16)> {
        Ok(terminal::size()?)
    }

    pub(super) fn draw(&mut self, state: &State) -> Result<()> {
        let (width, height) = self.size()?;
        if self.terminal.get_frame().area() != Rect::new(0, 0, width, height) {
            self.redraw()?;
        }
        let drawn = self
            .terminal
            .draw(|frame| tui::draw(state, frame.buffer_mut()));
        drawn.context("failed to draw")?;
        Ok(())
    }

    pub(super) fn redraw(&mut self) -> Result<()> {
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.terminal = new_terminal()?;
        Ok(())
    }

    pub(super) fn take_mouse(&mut self, is_wanted: bool) -> Result<()> {
        self.has_mouse = is_wanted;
        match is_wanted {
            true => execute!(io::stdout(), EnableMouseCapture)?,
            false => execute!(io::stdout(), DisableMouseCapture)?,
        }
        Ok(())
    }

    /// By an escape sequence that most terminals know (OSC 52).
    pub(super) fn copy(&mut self, text: &str) -> Result<()> {
        use ratatui::crossterm::clipboard::CopyToClipboard;
        execute!(io::stdout(), CopyToClipboard::to_clipboard_from(text))?;
        Ok(())
    }

    /// To the shell, until it says `fg`.
    pub(super) fn suspend(&mut self) -> Result<()> {
        self.close();
        raise(Signal::SIGTSTP)?;
        self.enter()
    }

    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            restore();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// Types the key that quits where a signal would.
fn quit_at_signal(signals: &Signals, events: &Sender<Event>) {
    if signals.wait_until(None).is_ok() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        // The view may have ended meanwhile.
        let _ = events.send(Event::Key(key));
    }
}

/// Of a fixed size: what follows a size, or clears, asks the terminal where its cursor is,
/// and the thread that reads keys takes the answer.
fn new_terminal() -> Result<Terminal<CrosstermBackend<Stdout>>> {
    let (width, height) = terminal::size()?;
    let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
    let backend = CrosstermBackend::new(io::stdout());
    Ok(Terminal::with_options(
        backend,
        TerminalOptions { viewport },
    )?)
}

/// Sends the next key; `false` once the view has ended.
fn send_key(events: &Sender<Event>) -> bool {
    let event = match event::read() {
        Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
        Ok(event::Event::Mouse(mouse)) => Event::Mouse(mouse),
        Ok(event::Event::Resize(width, height)) => Event::Resize(width, height),
        Ok(_) => return true,
        Err(_) => return false,
    };
    events.send(event).is_ok()
}

fn restore() {
    // There is nothing to do where the terminal is gone.
    let _ = execute!(
        io::stdout(),
        DisableMouseCapture,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = disable_raw_mode();
    let _ = io::stdout().flush();
}

/// A view without one of its threads is no view.
fn restore_at_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        before(info);
        std::process::exit(101);
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    use super::*;

    #[test]
    #[ignore = "the test below runs it in a terminal"]
    fn it_panics_in_its_terminal() {
        let _screen = Screen::open(mpsc::channel().0).unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]);
        command.arg(std::env::current_exe().unwrap());
        let name = "commands::top::screen::tests::it_panics_in_its_terminal";
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        command.env("RUST_BACKTRACE", "0");
        command.stdin(end()).stdout(end()).stderr(end());
        let status = command.status().unwrap();
        drop(command);
        assert_eq!(status.code(), Some(101));
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        drop(pty.slave);
        let mut written = Vec::new();
        // A terminal without a program ends with an error.
        let _ = File::from(pty.master).read_to_end(&mut written);
        let written = String::from_utf8_lossy(&written);
        let (drawn, after) = written.rsplit_once("\x1b[?1049l").unwrap();
        assert!(drawn.contains("\x1b[?1049h"), "{written:?}");
        for wanted in ["\x1b[?25h", "on purpose"] {
            assert!(after.contains(wanted), "{written:?}");
        }
        assert!(written.contains("\x1b[?1000l"), "{written:?}");
    }
}
