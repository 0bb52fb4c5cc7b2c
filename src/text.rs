//! Text as it is shown: names that others chose, and numbers of things.

/// How a line of a message follows another: indented, as no message begins.
pub(crate) const NEXT_LINE: &str = "\n    ";

/// Control characters as `\u{1b}`, so that no text moves the cursor of a
/// terminal, begins a line or turns the direction of reading.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_control(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether [`escape`] changes the text.
#[inline]
pub fn has_control(text: &str) -> bool {
    // Nearly all text is plain, and its bytes are looked through in less time.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(is_control)
}

/// Also those that turn the direction of text around.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 group`, `2,000 groups`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", thousands(&count.to_string()))
}

/// A whole number with separators: `-12,304`.
pub(crate) fn thousands(number: &str) -> String {
    let digits = number.trim_start_matches('-');
    let mut out = String::from(&number[..number.len() - digits.len()]);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
