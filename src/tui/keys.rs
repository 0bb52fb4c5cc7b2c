//! The keys, once for what they do and for the help.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    Row(isize),
    Page(isize),
    FirstRow,
    LastRow,
    Close,
    Open,
    Enter,
    Back,
    NextTab(isize),
    Tab(usize),
    Pause,
    Step(isize),
    Interval(isize),
    Filter,
    Sort(isize),
    Reverse,
    Group(isize),
    Totals,
    Columns,
    Panel,
    Follow,
    Freeze,
    Baseline(bool),
    Warning(isize),
    Mouse,
    Export,
    Copy,
    Speed(isize),
    Time,
    Help,
    Redraw,
    Suspend,
    Quit,
}

/// The line of a key in the help: what to type, and what it does.
pub(super) type Line = (&'static str, &'static str);

/// Two columns of the help.
pub(super) const HELP: [&[Line]; 2] = [
    &[
        ("↑ ↓  k j", "row"),
        ("PgUp PgDn", "page of rows"),
        ("Home End", "first, last row"),
        ("← →", "close, open a group"),
        ("Tab  1-9", "next tab, tab by number"),
        ("Enter", "open row, group or tally"),
        ("Esc", "close, clear, go back"),
        ("space", "pause; still counts"),
        (", .", "paused: reading back, ahead"),
        ("< >", "paused: ten readings"),
        ("+  -", "interval, 0.1 s to 60 s"),
        ("z  Z", "baseline: set, drop"),
        ("n  N", "next, previous warning"),
        ("m", "mouse on, off"),
    ],
    &[
        ("/", "filter, as --where"),
        ("s  S", "sort: next, previous column"),
        ("r", "reverse the order"),
        ("b  B", "group by next, last column"),
        ("t", "rates, totals"),
        ("c", "columns: show, hide"),
        ("h", "panel of bars and heat map"),
        ("f", "follow the row as it moves"),
        ("o", "order: live, frozen"),
        ("e", "export what is shown, a file"),
        ("y", "copy as a ktally command"),
        ("?  F1", "this help"),
        ("Ctrl-L", "draw anew"),
        ("Ctrl-Z", "to the shell; fg returns"),
        ("q Ctrl-C", "quit"),
    ],
];

impl Action {
    /// Of a key, outside of a line that is typed.
    pub(super) fn of(key: KeyEvent) -> Option<Self> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return Self::of_control(key.code);
        }
        Some(match key.code {
            KeyCode::Up | KeyCode::Char('k') => Self::Row(-1),
            KeyCode::Down | KeyCode::Char('j') => Self::Row(1),
            KeyCode::PageUp => Self::Page(-1),
            KeyCode::PageDown => Self::Page(1),
            KeyCode::Home => Self::FirstRow,
            KeyCode::End => Self::LastRow,
            KeyCode::Left => Self::Close,
            KeyCode::Right => Self::Open,
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Back,
            KeyCode::Tab => Self::NextTab(1),
            KeyCode::BackTab => Self::NextTab(-1),
            KeyCode::F(1) => Self::Help,
            KeyCode::F(3 | 4) => Self::Filter,
            KeyCode::F(6) => Self::Sort(1),
            KeyCode::F(10) => Self::Quit,
            KeyCode::Char(c) => return Self::of_char(c),
            _ => return None,
        })
    }

    fn of_char(c: char) -> Option<Self> {
        Some(match c {
            '1'..='9' => Self::Tab(c as usize - '1' as usize),
            ' ' => Self::Pause,
            ',' => Self::Step(-1),
            '.' => Self::Step(1),
            '<' => Self::Step(-10),
            '>' => Self::Step(10),
            '[' => Self::Step(-60),
            ']' => Self::Step(60),
            '{' => Self::Speed(-1),
            '}' => Self::Speed(1),
            '+' | '=' => Self::Interval(1),
            '-' => Self::Interval(-1),
            'g' => Self::Time,
            '/' => Self::Filter,
            's' => Self::Sort(1),
            'S' => Self::Sort(-1),
            'r' => Self::Reverse,
            'b' => Self::Group(1),
            'B' => Self::Group(-1),
            't' => Self::Totals,
            'c' => Self::Columns,
            'h' => Self::Panel,
            'f' => Self::Follow,
            'o' => Self::Freeze,
            'z' => Self::Baseline(true),
            'Z' => Self::Baseline(false),
            'n' => Self::Warning(1),
            'N' => Self::Warning(-1),
            'm' => Self::Mouse,
            'e' => Self::Export,
            'y' => Self::Copy,
            '?' => Self::Help,
            'q' => Self::Quit,
            _ => return None,
        })
    }

    fn of_control(code: KeyCode) -> Option<Self> {
        match code {
            KeyCode::Char('c') => Some(Self::Quit),
            KeyCode::Char('l') => Some(Self::Redraw),
            KeyCode::Char('z') => Some(Self::Suspend),
            _ => None,
        }
    }

    /// Whether it works wherever one is.
    pub(super) fn is_global(self) -> bool {
        matches!(self, Self::Redraw | Self::Suspend) || self == Self::Quit
    }
}
