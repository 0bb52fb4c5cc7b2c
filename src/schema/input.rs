//! What a user typed for a key or value, taken apart before its type is known
//! in full: words, lists and fields.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value as Json;

use super::types::{Kind, Type};

/// Text that is still to be understood, or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// A number, a name, a text; or fields, where the type is a struct.
    Word(String),
    /// A text that stood in quotes: itself, whatever it looks like.
    Quoted(String),
    /// `hex:` and so on.
    Bytes(Vec<u8>),
    /// `[1, 2]`
    List(Vec<Input>),
    /// `a=1,b.c=2` or `{"a": 1, "b": {"c": 2}}`
    Fields(Vec<(String, Input)>),
}

/// The names and values of [`Input::Fields`].
pub(super) type Fields = [(String, Input)];

impl Input {
    pub(super) fn word(text: &str) -> Self {
        Self::Word(text.to_owned())
    }

    /// Takes a word apart as far as the type wants it: text and numbers stay.
    pub(super) fn for_type(&self, ty: &Type) -> Result<Self> {
        let (text, quoted) = match self {
            Self::Word(text) => (text, false),
            Self::Quoted(text) => (text, true),
            other => return Ok(other.clone()),
        };
        let is_composite = matches!(ty.kind, Kind::Struct(_) | Kind::Union(_));
        let is_whole = ty.is_text() || !is_composite && !matches!(ty.kind, Kind::Array { .. });
        let fits = quoted && ty.is_text() && text.len() <= ty.size;
        match text.strip_prefix("hex:") {
            Some(hex) if !fits => return Ok(Self::Bytes(hex_bytes(hex)?)),
            _ if quoted && is_whole => return Ok(Self::word(text)),
            _ => {}
        }
        match text.trim_start().chars().next() {
            Some('"') => Self::from_json_text(text, is_whole),
            Some('{' | '[') if !is_whole => Self::from_json_text(text, is_whole),
            _ if !is_composite => Ok(Self::word(text)),
            _ => match ty.members() {
                // A struct of one field is as good as the field.
                [only]
                    if !text.is_empty() && !only.name.is_empty() && split(text, '=').len() == 1 =>
                {
                    Ok(Self::Fields(vec![(only.name.clone(), self.clone())]))
                }
                _ => fields(text),
            },
        }
    }

    fn from_json_text(text: &str, is_whole: bool) -> Result<Self> {
        let json = serde_json::from_str(text).with_context(|| format!("`{text}` is not JSON"))?;
        Ok(match Self::from_json(json) {
            Self::Quoted(word) if is_whole => Self::Word(word),
            other => other,
        })
    }

    fn from_json(json: Json) -> Self {
        match json {
            Json::Null => Self::Word("null".to_owned()),
            Json::Bool(value) => Self::Word(value.to_string()),
            Json::Number(number) => Self::Word(number.to_string()),
            Json::String(text) => Self::Quoted(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                let fields = fields.into_iter();
                let fields = fields.map(|(name, value)| (name, Self::from_json(value)));
                Self::Fields(fields.collect())
            }
        }
    }

    /// Puts a value where a path leads, through fields that may be there.
    fn insert(fields: &mut Vec<(String, Self)>, path: &str, value: Self) -> Result<()> {
        let Some((first, rest)) = path.split_once('.') else {
            ensure!(!path.is_empty(), "a field has no name");
            fields.push((path.to_owned(), value));
            return Ok(());
        };
        let at = fields.iter().position(|(name, _)| name == first);
        let at = at.unwrap_or_else(|| {
            fields.push((first.to_owned(), Self::Fields(Vec::new())));
            fields.len() - 1
        });
        match &mut fields[at].1 {
            Self::Fields(inner) => Self::insert(inner, rest, value),
            _ => Err(anyhow!("field `{first}` is given twice")),
        }
    }
}

/// No path leads through more fields.
const DEEPEST: usize = 128;

/// `a=1,b.c=2,d[0]=3`
fn fields(text: &str) -> Result<Input> {
    let mut fields = Vec::new();
    if text.is_empty() {
        return Ok(Input::Fields(fields));
    }
    for part in split(text, ',') {
        let (path, value) = part
            .split_once('=')
            .ok_or_else(|| anyhow!("`{part}` is not FIELD=VALUE"))?;
        let path = dotted(path.trim());
        ensure!(
            path.split('.').count() <= DEEPEST,
            "`{part}` is nested too deep"
        );
        Input::insert(&mut fields, &path, Input::word(value))?;
    }
    Ok(Input::Fields(fields))
}

/// `a[2].b` is `a.2.b`, as columns are named.
pub(crate) fn dotted(path: &str) -> String {
    path.replace('[', ".").replace(']', "")
}

/// Splits at a character that stands outside of brackets and quotes.
pub(crate) fn split(text: &str, at: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ if c == at && depth == 0 => {
                parts.push(&text[start..i]);
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Pairs of hex digits; blanks, ends of lines and colons between them are passed
/// over.
pub(super) fn hex_bytes(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for c in text.chars().filter(|c| !matches!(c, ' ' | '\n' | ':')) {
        let digit = c
            .to_digit(16)
            .with_context(|| format!("`{text}` has characters that are no hex digits"))?;
        match high.take() {
            None => high = Some(digit as u8),
            Some(high) => bytes.push(high << 4 | digit as u8),
        }
    }
    ensure!(
        high.is_none(),
        "{} hex digits are no whole number of bytes",
        2 * bytes.len() + 1
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_outside_of_brackets_and_quotes() {
        assert_eq!(
            split("a=1,b=[2,3],c={d,e}", ','),
            ["a=1", "b=[2,3]", "c={d,e}"]
        );
        assert_eq!(split(r#"a="x,\"y",b"#, ','), [r#"a="x,\"y""#, "b"]);
        assert_eq!(split("", ','), [""]);
        assert_eq!(split("]],", ','), ["]]", ""]);
    }

    #[test]
    fn hex_is_whole_bytes() {
        assert_eq!(hex_bytes("2a 00:\nff").unwrap(), [42, 0, 255]);
        assert_eq!(hex_bytes("").unwrap(), [0; 0]);
        assert!(hex_bytes("2").is_err());
        assert!(hex_bytes("0x2a").is_err());
        assert!(hex_bytes("é").is_err());
    }

    #[test]
    fn paths_make_nested_fields() {
        let word = Input::word;
        let inner = vec![("b".into(), word("1")), ("0".into(), word("2"))];
        let outer = [("a".into(), Input::Fields(inner)), ("c".into(), word("3"))];
        let nested = Input::Fields(outer.into());
        assert_eq!(fields("a.b=1,a[0]=2,c=3").unwrap(), nested);
        let deep = format!("a{}=1", ".a".repeat(100_000));
        for bad in ["a", "a=1,a.b=2", "=1", "a.=1", &deep] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }
}
