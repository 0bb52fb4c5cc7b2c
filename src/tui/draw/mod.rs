//! The cells of a terminal, of a state. Every text goes through a [`Pen`], which knows
//! what the terminal has.

mod detail;
mod frame;
mod overlay;
mod overview;
mod panel;
mod pen;
mod rows;
mod time;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub(super) use self::frame::losses;
use self::pen::{Pen, Tone};
use super::state::{Overlay, State};

/// What lies under the mouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tab(usize),
    Heading(String),
    Row(usize),
    /// Of the overview.
    Line(usize),
    Health,
    /// A frame of a recording.
    Frame(usize),
}

/// Lines around the rows: what, tabs and health above them, a message and keys below.
const ABOVE: u16 = 3;
const BELOW: u16 = 2;

/// A recording has a line of time in addition.
fn below(state: &State) -> u16 {
    BELOW + u16::from(state.replay.is_some())
}

/// From here on the panel stands at the right.
const WIDE: u16 = 160;

/// Draws a state on all of a buffer.
pub(crate) fn draw(state: &State, buffer: &mut Buffer) {
    let area = buffer.area;
    let mut pen = Pen::new(buffer, state.glyphs, state.color);
    if state.overlay == Overlay::Help {
        overlay::help(&mut pen, area);
        return;
    }
    if area.height < ABOVE + below(state) + 2 {
        rows::draw(
            state,
            &mut pen,
            Rect {
                y: 1.min(area.height),
                height: area.height.saturating_sub(1),
                ..area
            },
        );
        frame::title(state, &mut pen, area);
        return;
    }
    frame::title(state, &mut pen, area);
    frame::tabs(state, &mut pen, area);
    frame::health(state, &mut pen, area);
    let parts = Parts::of(state, area);
    if let (Some(above), Some(overview)) = (parts.overview, state.overview()) {
        overview::draw(state, &mut pen, overview, above);
    }
    rows::draw(state, &mut pen, parts.rows);
    if let Some(panel) = parts.panel {
        panel::draw(state, &mut pen, panel);
    }
    let lines = Rect {
        y: area.bottom() - below(state),
        ..area
    };
    time::draw(state, &mut pen, lines);
    frame::message(state, &mut pen, area);
    frame::keys(state, &mut pen, area);
    if let Overlay::Columns(place) = state.overlay {
        overlay::columns(state, &mut pen, area, place);
    }
}

/// Where rows and panel are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    overview: Option<Rect>,
    rows: Rect,
    panel: Option<Rect>,
}

impl Parts {
    fn of(state: &State, area: Rect) -> Self {
        let Some(overview) = state.overview() else {
            return Self::of_table(state, area);
        };
        let room = area.height.saturating_sub(ABOVE + below(state));
        let area = Rect {
            y: area.y + ABOVE,
            height: room,
            ..area
        };
        let height = overview::height(overview, area);
        Self {
            overview: Some(Rect { height, ..area }),
            rows: Rect {
                y: area.y + height,
                height: room - height,
                ..area
            },
            panel: None,
        }
    }

    fn of_table(state: &State, area: Rect) -> Self {
        let height = area.height.saturating_sub(ABOVE + below(state));
        let rows = Rect {
            y: area.y + ABOVE,
            height,
            ..area
        };
        let whole = Self {
            overview: None,
            rows,
            panel: None,
        };
        let view = &state.tab().view;
        if !view.has_panel && !view.is_detail {
            return whole;
        }
        if area.width >= WIDE && !view.is_detail {
            let width = 46;
            let left = area.width - width - 2;
            let right = Rect {
                x: area.x + area.width - width,
                width,
                ..rows
            };
            return Self {
                rows: Rect {
                    width: left,
                    ..rows
                },
                panel: Some(right),
                ..whole
            };
        }
        if area.height < 20 {
            return whole;
        }
        let above = match view.is_detail {
            true => detail_height(state),
            false => 5,
        };
        let above = above.min(height);
        let lower = Rect {
            y: rows.y + above,
            height: height - above,
            ..rows
        };
        Self {
            rows: Rect {
                height: above,
                ..rows
            },
            panel: Some(lower),
            ..whole
        }
    }
}

/// Two lines of headings, a line for each metric, and two more.
fn detail_height(state: &State) -> u16 {
    let metrics = state.tab().feed.table.metrics.len() as u16;
    metrics + 4
}

impl State {
    fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.0, self.size.1)
    }

    /// How many rows the screen has room for.
    pub(super) fn rows_shown(&self) -> usize {
        rows::room(self, Parts::of(self, self.area()).rows)
    }

    /// What is at these coordinates.
    pub(super) fn target(&self, x: u16, y: u16) -> Option<Target> {
        match y {
            1 => frame::tab_at(self, x).map(Target::Tab),
            2 => Some(Target::Health),
            y if y + below(self) >= self.size.1 && self.replay.is_some() => {
                time::frame_at(self, self.size.0, x).map(Target::Frame)
            }
            _ => {
                let parts = Parts::of(self, self.area());
                let above = self.overview().zip(parts.overview);
                let line = above.and_then(|(overview, area)| overview::line_at(overview, area, y));
                let line = line.map(Target::Line);
                line.or_else(|| rows::at(self, parts.rows, x, y))
            }
        }
    }
}
