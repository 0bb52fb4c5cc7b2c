//! A page of the documents on a terminal: that part of Markdown which they use.

use std::io::{self, Write};
use std::iter::Peekable;
use std::str::Lines;

use unicode_width::UnicodeWidthStr;

use super::{Style, fit, heading};

/// Writes a page with lines of the width that the style has; code keeps its lines.
pub(crate) fn page(out: &mut dyn Write, text: &str, style: &Style) -> io::Result<()> {
    let text = style.glyphs(text);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match kind(line) {
            Kind::Comment => {}
            Kind::Code => code(out, &mut lines)?,
            Kind::Heading => heading(out, &inline(line.trim_start_matches('#').trim()), style)?,
            Kind::Row => table(out, &rows(line, &mut lines), style)?,
            Kind::Blank => writeln!(out)?,
            Kind::Item | Kind::Text => paragraph(out, line, &mut lines, style)?,
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Kind {
    Comment,
    Code,
    Heading,
    Row,
    Blank,
    Item,
    Text,
}

fn kind(line: &str) -> Kind {
    match line.trim_start() {
        "" => Kind::Blank,
        text if text.starts_with("<!--") => Kind::Comment,
        text if text.starts_with("```") => Kind::Code,
        text if text.starts_with('#') => Kind::Heading,
        text if text.starts_with('|') => Kind::Row,
        text if !mark(text).is_empty() => Kind::Item,
        _ => Kind::Text,
    }
}

/// What begins an item of a list: `- ` or `1. `.
fn mark(text: &str) -> &str {
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.len() - number.len();
    match text.starts_with("- ") {
        true => &text[..2],
        false if digits > 0 && number.starts_with(". ") => &text[..digits + 2],
        false => "",
    }
}

fn code(out: &mut dyn Write, lines: &mut Peekable<Lines<'_>>) -> io::Result<()> {
    for line in lines.take_while(|line| kind(line) != Kind::Code) {
        writeln!(out, "{}", format!("    {line}").trim_end())?;
    }
    Ok(())
}

/// The lines of a paragraph, or of an item, are one text.
fn paragraph(
    out: &mut dyn Write,
    first: &str,
    lines: &mut Peekable<Lines<'_>>,
    style: &Style,
) -> io::Result<()> {
    let text = first.trim_start();
    let (mark, text) = text.split_at(mark(text).len());
    let mut text = text.to_owned();
    while let Some(line) = lines.next_if(|line| kind(line) == Kind::Text) {
        text = format!("{text} {}", line.trim());
    }
    let indent = first.len() - first.trim_start().len();
    let begin = format!("{:indent$}{mark}", "");
    let next = format!("\n{:1$}", "", begin.len());
    let text = wrapped(&inline(&text), style, begin.len());
    writeln!(out, "{begin}{}", text.join(&next))
}

/// The lines of a text that stands behind others.
fn wrapped(text: &str, style: &Style, before: usize) -> Vec<String> {
    let width = style.width.map(|width| width.saturating_sub(before));
    let text = fit::wrapped(text, &Style { width, ..*style });
    text.lines().map(str::to_owned).collect()
}

/// Without the marks of links and of strong text.
fn inline(text: &str) -> String {
    let text = text.replace("**", "").replace("\\|", "|");
    let mut rest = text.as_str();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("](") {
        let Some((begin, name)) = before.rsplit_once('[') else {
            break;
        };
        let (_, behind) = after.split_once(')').unwrap_or_default();
        plain += &format!("{begin}{name}");
        rest = behind;
    }
    plain + rest
}

/// The cells of a table, its heading first.
fn rows(first: &str, lines: &mut Peekable<Lines<'_>>) -> Vec<Vec<String>> {
    const BAR: &str = "\u{1}";
    let mut rows = vec![first];
    rows.extend(std::iter::from_fn(|| {
        lines.next_if(|line| kind(line) == Kind::Row)
    }));
    rows.retain(|row| row.contains(|c| !"|-: ".contains(c)));
    let cells = rows.into_iter().map(|row| {
        let row = row.trim().replace("\\|", BAR);
        let row = row.trim_start_matches('|').trim_end_matches('|');
        let cells = row.split('|').map(|cell| inline(cell.trim()));
        cells.map(|cell| cell.replace(BAR, "|")).collect()
    });
    cells.collect()
}

const BETWEEN: usize = 2;

fn table(out: &mut dyn Write, rows: &[Vec<String>], style: &Style) -> io::Result<()> {
    let widths = widths(rows, style.width.unwrap_or(usize::MAX));
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let width = Some(*width);
            wrapped(cell, &Style { width, ..*style }, 0)
        });
        let cells: Vec<Vec<String>> = cells.collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let part = cell.get(line).map_or("", String::as_str);
                let space = width.saturating_sub(part.width()) + BETWEEN;
                text += &format!("{part}{:space$}", "");
            }
            match number {
                0 => heading(
                    out,
                    text.trim_end(),
                    &Style {
                        width: None,
                        ..*style
                    },
                )?,
                _ => writeln!(out, "{}", text.trim_end())?,
            }
        }
    }
    Ok(())
}

/// The widest columns give way until all fit, as far as their words let them.
fn widths(rows: &[Vec<String>], room: usize) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    // Of its cells, or of its words.
    let widest = |column: usize, between: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let parts = cells.flat_map(|cell| cell.split(between));
        parts.map(UnicodeWidthStr::width).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(|it| widest(it, "\n")).collect();
    let least: Vec<usize> = (0..columns).map(|it| widest(it, " ")).collect();
    let room = room.saturating_sub(BETWEEN * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let can_give = widths
            .iter_mut()
            .zip(&least)
            .filter(|(width, least)| **width > **least);
        let Some((width, _)) = can_give.max() else {
            break;
        };
        *width -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, width: usize) -> String {
        let style = Style {
            width: Some(width),
            ..Style::default()
        };
        let mut out = Vec::new();
        page(&mut out, text, &style).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_wrapped_and_code_is_not() {
        let text = "# A **page**\n<!-- made -->\n\nOne [line](x.md#y) and\nanother.\n\n\
            - an item\n  of two lines\n- `b`\n10. ten\n\n```sh\nktally run a --where 'b=1'\n```\n";
        insta::assert_snapshot!(shown(text, 14), @r#"
    A page

    One line and
    another.

    - an item of
      two lines
    - `b`
    10. ten

        ktally run a --where 'b=1'
    "#);
    }

    #[test]
    fn cells_of_tables_are_wrapped() {
        let text = "| I want | run |\n|---|---|\n| a or b | `a \\| b --with much [text](x)` |\n| b | c |\n\nend\n";
        insta::assert_snapshot!(shown(text, 24), @r#"
    I want  run
    a or b  `a | b --with
            much text`
    b       c

    end
    "#);
        assert_eq!(shown(text, 99).lines().count(), 5);
    }
}
