//! The lines of a saved map: entries as JSON, with the type beside them.
//!
//! An entry is written by its types where that says all of its bytes, and as hex
//! where it does not, or where it is large: what is restored is what was saved,
//! byte by byte. To save takes the memory of two of the map's values, and to
//! restore that of eight.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::Map;
use crate::schema::{Declaration, LeftOut, Names, Place, Tags, Value, parse};

/// The first line of a file says that it is one.
const MARK: &str = "ktally_map";
const VERSION: u64 = 1;

/// The last line says how many entries there are: without it a file was cut, or
/// not all could be read.
const END: &str = "ktally_map_end";

/// How the entries of a map become lines, and lines entries.
pub struct LineCodec<'a> {
    /// What a key and a value are.
    pub declaration: &'a Declaration,
    /// The names of this host.
    pub names: &'a dyn Names,
    /// An entry has one value for each possible CPU; else it has one.
    pub value_count: Option<usize>,
    /// All as hex.
    pub raw: bool,
}

/// A line behind the first.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// The bytes of a key, and of each of its values.
    Entry(Vec<u8>, Vec<Vec<u8>>),
    /// The last: how many entries there are.
    End(u64),
}

/// Of larger keys and values, the types are not asked: what they make of a value
/// can take a hundred times its memory.
const MOST_TYPED: usize = 64 << 10;

/// How long a key or a value can be in a line: longer text gives way to hex.
fn most_text(size: usize) -> usize {
    4096 + 16 * size
}

/// How long a line can be that [`LineCodec::write`] writes for this map.
pub(crate) fn most_line(map: &Map) -> usize {
    64 + most_text(map.key_size) + map.value_count() * (most_text(map.value_size) + 1)
}

impl LineCodec<'_> {
    /// Writes the line of an entry.
    pub fn write<'v>(
        &self,
        out: &mut dyn Write,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]>,
    ) -> io::Result<()> {
        let (before, behind) = match self.value_count {
            Some(_) => (",\"values\":[", "]}\n"),
            None => (",\"value\":", "}\n"),
        };
        out.write_all(b"{\"key\":")?;
        self.write_exact(out, &self.declaration.key, key)?;
        out.write_all(before.as_bytes())?;
        for (i, value) in values.enumerate() {
            out.write_all(if i == 0 { b"" } else { b"," })?;
            self.write_exact(out, &self.declaration.value, value)?;
        }
        out.write_all(behind.as_bytes())
    }

    /// By its type, if that comes back as the same bytes; else as hex.
    fn write_exact(&self, out: &mut dyn Write, place: &Place, bytes: &[u8]) -> io::Result<()> {
        if !self.raw && bytes.len() <= MOST_TYPED {
            let shown = json!(place.decode(bytes)).to_string();
            if shown.len() <= most_text(bytes.len())
                && self
                    .read_back(place, &shown)
                    .is_ok_and(|back| back == bytes)
            {
                return out.write_all(shown.as_bytes());
            }
        }
        Ok(serde_json::to_writer(out, &Value::Bytes(bytes.into()))?)
    }

    /// What a line says. Its author may be anyone.
    pub fn read(&self, line: &[u8]) -> Result<Line> {
        let object: serde_json::Result<BTreeMap<String, &RawValue>> = serde_json::from_slice(line);
        let object = match object {
            Err(error) if error.is_eof() => bail!("it is cut"),
            other => other.map_err(|_| anyhow!("it is not a JSON object"))?,
        };
        let is_alone = object.len() == 1;
        let (mut key, mut values) = (None, None);
        for (name, json) in object {
            match name.as_str() {
                "key" => key = Some(json),
                "value" if values.is_none() => values = Some(vec![json]),
                "values" if values.is_none() => {
                    values = Some(serde_json::from_str(json.get()).context("its values")?);
                }
                END if is_alone => {
                    let count = json.get().parse().ok();
                    return count.map(Line::End).context("it has no number");
                }
                name => bail!("its field `{name}` has no place there"),
            }
        }
        let key = key.context("it has no key")?;
        let values = values.context("it has no value")?;
        let (found, count) = (values.len(), self.value_count.unwrap_or(1));
        ensure!(found == count, "it has {found} values, and the map {count}");
        let Declaration { key: of, .. } = self.declaration;
        let key = self.read_back(of, key.get()).context("its key")?;
        let Declaration { value: of, .. } = self.declaration;
        let values = values.iter().map(|value| self.read_back(of, value.get()));
        let values = values.collect::<Result<_>>().context("its value")?;
        Ok(Line::Entry(key, values))
    }

    /// From JSON.
    fn read_back(&self, place: &Place, json: &str) -> Result<Vec<u8>> {
        // Not in quotes, where it would be a text.
        let hex = json
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let text = hex.filter(|text| text.starts_with("hex:")).unwrap_or(json);
        let (tags, mut bytes) = (Tags::default(), vec![0; place.ty.size]);
        let left_out = LeftOut::Refused;
        parse(place, &tags, text, left_out, self.names, &mut bytes)?;
        Ok(bytes)
    }
}

/// The last line.
pub(crate) fn end(count: u64) -> Json {
    json!({END: count})
}

/// The first line.
pub(crate) fn head(map: &Map, declaration: &Declaration) -> Json {
    json!({
        MARK: VERSION,
        "name": declaration.name,
        "type": map.type_name(),
        "key_size": map.key_size,
        "value_size": map.value_size,
        "max_entries": map.max_entries,
        "copies": map.value_count(),
        "declaration": declaration.as_c(),
    })
}

/// What the first line of a file says about its map must be so for the map with the
/// wanted first line, except for its name and how many entries fit.
pub fn check_head(line: &[u8], wanted: &Json) -> Result<()> {
    let found: Json = serde_json::from_slice(line).unwrap_or_default();
    ensure!(
        found[MARK] == json!(VERSION),
        "its first line is not that of a saved map"
    );
    for what in ["key_size", "value_size", "copies", "declaration"] {
        if found[what] != wanted[what] {
            let text = |json: &Json| json.as_str().map_or(json.to_string(), str::to_owned);
            bail!(
                "{what} differs: {} in the file, {} in the map",
                text(&found[what]),
                text(&wanted[what])
            );
        }
    }
    Ok(())
}
