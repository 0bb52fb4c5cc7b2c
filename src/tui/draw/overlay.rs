//! What lies over the rows: the help, and the list of columns.

use ratatui::layout::Rect;

use super::{Pen, Tone};
use crate::tui::keys::HELP;
use crate::tui::state::State;

const WORDS: [&str; 5] = [
    "▼ ▲ sorted by, down or up    % share of the sorted column    · none in that time",
    "other    events counted without their key     dropped  times that are unknown",
    "missed   runs that the kernel skipped         gaps     events not reported",
    "replay   space play  , . step  < > 10 s  [ ] 1 min  { } speed  g go to a time",
    "mouse    click row, heading, tab; again for detail; wheel scrolls",
];

pub(super) fn help(pen: &mut Pen<'_>, area: Rect) {
    pen.clear(area);
    pen.put(
        (area.x, area.y),
        area.right(),
        "Keys of ktally top",
        Tone::Strong,
    );
    pen.put_right((area.right(), area.y), "any key closes", Tone::Plain);
    let half = area.width / 2;
    for (column, lines) in HELP.iter().enumerate() {
        let x = area.x + column as u16 * half;
        for (i, (keys, what)) in lines.iter().enumerate() {
            let y = area.y + 2 + i as u16;
            pen.put((x, y), x + half, keys, Tone::Strong);
            pen.put((x + 11, y), x + half, what, Tone::Plain);
        }
    }
    let below = area.y + 3 + HELP.iter().map(|lines| lines.len()).max().unwrap_or(0) as u16;
    for (i, words) in WORDS.iter().enumerate() {
        pen.put((area.x, below + i as u16), area.right(), words, Tone::Faint);
    }
}

pub(super) fn columns(state: &State, pen: &mut Pen<'_>, area: Rect, place: usize) {
    let tab = state.tab();
    let columns = tab.columns();
    let width = columns.iter().map(String::len).max().unwrap_or(0) as u16 + 8;
    let box_area = Rect {
        x: area.right().saturating_sub(width),
        y: area.y + 3,
        width,
        height: (columns.len() as u16).min(area.height.saturating_sub(5)),
    };
    pen.clear(box_area);
    for (i, column) in columns.iter().enumerate().take(box_area.height.into()) {
        let mark = if tab.view.hidden.contains(column) {
            "[ ]"
        } else {
            "[x]"
        };
        let y = box_area.y + i as u16;
        pen.put(
            (box_area.x + 1, y),
            box_area.right(),
            &format!("{mark} {column}"),
            Tone::Plain,
        );
        if i == place {
            pen.select(Rect {
                y,
                height: 1,
                ..box_area
            });
        }
    }
}
