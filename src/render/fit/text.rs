//! Text in the room that it has.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::render::Style;

/// A heading on two lines: broken at a `_`, or before `/s`.
pub(super) fn split(head: &str) -> (&str, &str) {
    let name = head.strip_suffix("/s").unwrap_or(head);
    let at_ends = head
        .match_indices('_')
        .map(|(at, _)| (&head[..at], &head[at + 1..]));
    let before_rate = (name.len() < head.len()).then(|| head.split_at(name.len()));
    let all = at_ends.chain(before_rate);
    let best = all.min_by_key(|(upper, lower)| upper.width().max(lower.width()));
    best.unwrap_or(("", head))
}

/// Without the space before a unit.
pub(super) fn tight(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for part in cell.split(' ') {
        let is_unit =
            text.ends_with(|c: char| c.is_ascii_digit()) && part.starts_with(char::is_alphabetic);
        if !text.is_empty() && !is_unit {
            text.push(' ');
        }
        text.push_str(part);
    }
    text
}

/// Text of at most this width. Paths and stacks lose their middle, other text its
/// end.
pub(in crate::render) fn shortened(text: &str, width: usize, style: Style) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let keeps_end =
        !text.contains("; ") && text.contains(';') || text.contains('/') && !text.contains(' ');
    let room = width.saturating_sub(1);
    let start = if keeps_end { room / 3 } else { room };
    let end = taken(text.chars().rev(), room - start);
    let start = &text[..taken(text.chars(), start)];
    // A mark without its letter would stand on the ellipsis.
    let end = text[text.len() - end..].trim_start_matches(|c: char| c.width() == Some(0));
    Cow::Owned(format!("{start}{}{end}", style.glyphs("…")))
}

/// How many bytes of these characters have this width.
fn taken(chars: impl Iterator<Item = char>, width: usize) -> usize {
    let mut left = width;
    let fits = |c: &char| {
        let rest = left.checked_sub(c.width().unwrap_or(0));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    chars.take_while(fits).map(char::len_utf8).sum()
}

/// A sentence on lines of the terminal's width, broken between words.
pub(in crate::render) fn wrapped(text: &str, style: &Style) -> String {
    let limit = style.width.unwrap_or(usize::MAX);
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let line = lines.last().map_or(0, |line| line.width());
        if line > 0 && line + word.trim_end().width() > limit {
            lines.push(String::new());
        }
        lines
            .iter_mut()
            .last()
            .into_iter()
            .for_each(|line| line.push_str(word));
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}
