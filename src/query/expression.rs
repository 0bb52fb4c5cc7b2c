//! What is written for a value: `sk.__sk_common.skc_dport`, `args[1]`.

use anyhow::Result;

use crate::error::usage;
use crate::schema::dotted;

/// A word of an expression, and where it begins: 1 is the first character.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: usize,
}

/// A name, and the way from there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression {
    /// As it was written, with `.` for `->`.
    pub(crate) text: String,
    pub(crate) root: Word,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Member(Word),
    /// An element, and where its `[` is.
    Element(usize, usize),
}

/// More levels than any struct of the kernel has.
const MOST_STEPS: usize = 32;

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let written = text.trim().replace("->", ".");
        let mut parser = Parser {
            text: &written,
            at: 0,
        };
        let root = parser.word()?;
        let mut steps = Vec::new();
        while parser.at < written.len() {
            steps.push(parser.step()?);
        }
        if steps.len() > MOST_STEPS {
            return Err(usage(format!(
                "`{written}` has {} steps, of at most {MOST_STEPS}",
                steps.len()
            )));
        }
        Ok(Self {
            root,
            steps,
            text: dotted(&written),
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn refuse<T>(&self, what: &str) -> Result<T> {
        let at = self.text[..self.at].chars().count() + 1;
        Err(usage(format!("`{}`: {what} at position {at}", self.text)))
    }

    fn word(&mut self) -> Result<Word> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (text, at) = (rest[..end].to_owned(), self.at + 1);
        match rest.chars().next() {
            Some(first) if first.is_ascii_digit() => {
                self.refuse("a name begins with a letter or `_`, not with a digit,")
            }
            Some(first) if !is_word(first) => {
                self.refuse(&format!("there is `{first}` in place of a name"))
            }
            None => self.refuse("a name is missing"),
            Some(_) => {
                self.at += end;
                Ok(Word { text, at })
            }
        }
    }

    /// `.2` is the name of an element in results.
    fn number(&mut self) -> Option<usize> {
        let rest = self.rest();
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let index = rest[..digits].parse().ok()?;
        self.at += digits;
        Some(index)
    }

    fn step(&mut self) -> Result<Step> {
        let at = self.at + 1;
        match self.rest().chars().next() {
            Some('.') => {
                self.at += 1;
                match self.number() {
                    Some(index) => Ok(Step::Element(index, at)),
                    None => self.word().map(Step::Member),
                }
            }
            Some('[') => {
                let inside = self.rest()[1..].split_once(']');
                let Some((number, _)) = inside else {
                    return self.refuse("there is no `]` for the `[`");
                };
                let Ok(index) = number.parse() else {
                    let what = format!("write the number of an element in place of `{number}`");
                    return self.refuse(&what);
                };
                self.at += number.len() + 2;
                Ok(Step::Element(index, at))
            }
            Some(other) => self.refuse(&format!(
                "there is `{other}` in place of `.MEMBER` or `[NUMBER]`"
            )),
            None => self.refuse("a step is missing"),
        }
    }
}
