//! Text on cells, in the terminal's own colours.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use crate::text::escape;
use crate::tui::glyphs::Glyphs;

/// What a text is, which says how it looks. No fact is in colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// The sorted column, the current tab.
    Strong,
    /// Zeroes, and what is old.
    Faint,
    /// What is drawn.
    Drawn,
    /// Lost events.
    Lost,
    /// Not now: paused, replayed.
    NotNow,
    /// Cannot run.
    Wrong,
}

/// Puts text on cells.
pub(super) struct Pen<'b> {
    buffer: &'b mut Buffer,
    pub(super) glyphs: Glyphs,
    color: bool,
}

impl<'b> Pen<'b> {
    pub(super) fn new(buffer: &'b mut Buffer, glyphs: Glyphs, color: bool) -> Self {
        Self {
            buffer,
            glyphs,
            color,
        }
    }

    /// Puts text at these coordinates, at most up to `end`. Where it ends. Text may be
    /// anybody's: control characters are escaped.
    pub(super) fn put(&mut self, (x, y): (u16, u16), end: u16, text: &str, tone: Tone) -> u16 {
        let area = self.buffer.area;
        let end = end.min(area.right());
        if y >= area.bottom() || x >= end {
            return x;
        }
        let text = escape(text);
        let text = self.glyphs.show(&text).into_owned();
        let style = self.style(tone);
        self.buffer
            .set_stringn(x, y, text, (end - x).into(), style)
            .0
    }

    /// The same, so that it ends there.
    pub(super) fn put_right(&mut self, (end, y): (u16, u16), text: &str, tone: Tone) -> u16 {
        let width = self.glyphs.show(text).width() as u16;
        let x = end.saturating_sub(width);
        self.put((x, y), end, text, tone);
        x
    }

    /// Makes the selected row of a line.
    pub(super) fn select(&mut self, area: Rect) {
        self.buffer
            .set_style(area, Style::new().add_modifier(Modifier::REVERSED));
    }

    /// Leaves nothing there.
    pub(super) fn clear(&mut self, area: Rect) {
        for y in area.top()..area.bottom() {
            self.put(
                (area.x, y),
                area.right(),
                &" ".repeat(area.width.into()),
                Tone::Plain,
            );
        }
    }

    fn style(&self, tone: Tone) -> Style {
        let plain = Style::reset();
        let modified = |modifier| plain.add_modifier(modifier);
        match (tone, self.color) {
            (Tone::Plain, _) | (Tone::Drawn, false) => plain,
            (Tone::Strong, _) | (Tone::Wrong, false) => modified(Modifier::BOLD),
            (Tone::Faint, _) => modified(Modifier::DIM),
            (Tone::Drawn, true) => plain.fg(Color::Cyan),
            (Tone::Lost, true) => plain.fg(Color::Black).bg(Color::Yellow),
            (Tone::Lost, false) => modified(Modifier::REVERSED),
            (Tone::NotNow, true) => plain.fg(Color::Magenta),
            (Tone::NotNow, false) => modified(Modifier::UNDERLINED),
            (Tone::Wrong, true) => plain.fg(Color::Red),
        }
    }
}
