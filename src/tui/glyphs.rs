//! What is drawn beside text: each glyph is one cell wide, and has a stand-in for
//! locales without it.

use std::borrow::Cow;

/// Heights of a sparkline, from nearly nothing to all.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_LEVELS: [char; 6] = ['_', '-', '=', '+', '*', '#'];

/// Each glyph and what stands for it.
const ASCII: [(char, &str); 17] = [
    ('█', "#"),
    ('▌', "|"),
    ('░', "."),
    ('▒', ":"),
    ('▓', "+"),
    ('·', "."),
    ('…', "~"),
    ('─', "-"),
    ('│', "|"),
    ('▼', "v"),
    ('▲', "^"),
    ('↑', "up "),
    ('↓', "down "),
    ('←', "left "),
    ('→', "right "),
    ('µ', "u"),
    ('×', "x"),
];

/// Which glyphs the terminal has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Glyphs {
    pub(crate) ascii: bool,
}

impl Glyphs {
    /// The text as this terminal shows it.
    pub(super) fn show(self, text: &str) -> Cow<'_, str> {
        if !self.ascii || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let stand_in = |c: char| ASCII.iter().find(|(glyph, _)| *glyph == c);
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            match stand_in(c) {
                Some((_, ascii)) => shown.push_str(ascii),
                None => shown.push(c),
            }
        }
        Cow::Owned(shown)
    }

    /// A glyph for each number: blank for what is not known, a dot for zero, and a
    /// height on a scale that ends at a power of two, so that it does not breathe.
    pub(super) fn sparkline(self, numbers: impl Iterator<Item = Option<f64>> + Clone) -> String {
        let most = numbers.clone().flatten().fold(0.0, f64::max);
        let scale = most.log2().ceil().exp2();
        let levels: &[char] = if self.ascii { &ASCII_LEVELS } else { &LEVELS };
        let glyph = |number: Option<f64>| match number {
            None => ' ',
            Some(number) if number <= 0.0 && self.ascii => '.',
            Some(number) if number <= 0.0 => '·',
            Some(number) => {
                let level = (number / scale * levels.len() as f64).ceil() as usize;
                levels[level.clamp(1, levels.len()) - 1]
            }
        };
        numbers.map(glyph).collect()
    }

    /// How dense a cell of a heat map is: by its share of its column, at fixed limits.
    pub(super) fn shade(self, share: f64) -> char {
        let shades = if self.ascii {
            ['.', ':', '+', '#']
        } else {
            ['░', '▒', '▓', '█']
        };
        match share {
            share if share <= 0.0 => ' ',
            share if share < 0.01 => shades[0],
            share if share < 0.1 => shades[1],
            share if share < 0.5 => shades[2],
            _ => shades[3],
        }
    }

    /// A bar of this length in cells; what is there shows, however little.
    pub(super) fn bar(self, length: f64) -> String {
        let (full, half) = if self.ascii {
            ("#", "|")
        } else {
            ("█", "▌")
        };
        let halves = (length * 2.0).round() as usize;
        match halves {
            0 if length > 0.0 => half.to_owned(),
            _ if self.ascii && halves > 1 => full.repeat(halves / 2),
            _ => full.repeat(halves / 2) + &half[..half.len() * (halves % 2)],
        }
    }
}
