//! The cells of a terminal, of a state. Every text goes through a [`Pen`], which knows
//! what the terminal has.

mod detail;
mod frame;
mod overlay;
mod panel;
mod pen;
mod rows;

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
    Health,
}

/// Lines around the rows: what, tabs and health above them, a message and keys below.
const ABOVE: u16 = 3;
const BELOW: u16 = 2;

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
    if area.height < ABOVE + BELOW + 2 {
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
    rows::draw(state, &mut pen, parts.rows);
    if let Some(panel) = parts.panel {
        panel::draw(state, &mut pen, panel);
    }
    frame::message(state, &mut pen, area);
    frame::keys(state, &mut pen, area);
    if let Overlay::Columns(place) = state.overlay {
        overlay::columns(state, &mut pen, area, place);
    }
}

/// Where rows and panel are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    rows: Rect,
    panel: Option<Rect>,
}

impl Parts {
    fn of(state: &State, area: Rect) -> Self {
        let height = area.height.saturating_sub(ABOVE + BELOW);
        let rows = Rect {
            y: area.y + ABOVE,
            height,
            ..area
        };
        let view = &state.tab().view;
        if !view.has_panel && !view.is_detail {
            return Self { rows, panel: None };
        }
        if area.width >= WIDE && !view.is_detail {
            let width = 46;
            let left = Rect {
                width: area.width - width - 2,
                ..rows
            };
            let right = Rect {
                x: area.x + area.width - width,
                width,
                ..rows
            };
            return Self {
                rows: left,
                panel: Some(right),
            };
        }
        if area.height < 20 {
            return Self { rows, panel: None };
        }
        let above = if view.is_detail {
            detail_height(state)
        } else {
            5
        };
        let above = above.min(height);
        let upper = Rect {
            height: above,
            ..rows
        };
        let lower = Rect {
            y: rows.y + above,
            height: height - above,
            ..rows
        };
        Self {
            rows: upper,
            panel: Some(lower),
        }
    }
}

/// A heading, a line a number, and two of quantiles.
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
            _ => rows::at(self, Parts::of(self, self.area()).rows, x, y),
        }
    }
}
