//! The lines of a saved map: entries as JSON, with the type beside them.
//!
//! An entry is written by its types where that says all of its bytes, and as hex
//! where it does not: what is restored is what was saved, byte by byte.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value as Json, json};

use super::Map;
use crate::schema::{Declaration, Labels, LeftOut, Place, Tags, Value, parse};

/// The first line of a file says that it is one.
const MARK: &str = "ktally_map";
const VERSION: u64 = 1;

/// The last line says how many entries there are: without it a file was cut, or
/// not all could be read.
const END: &str = "ktally_map_end";

/// How the entries of a map become lines, and lines entries.
pub struct Form<'a> {
    /// What a key and a value are.
    pub declaration: &'a Declaration,
    /// The names of this host.
    pub labels: &'a Labels,
    /// An entry has one value for each possible CPU; else it has one.
    pub copies: Option<usize>,
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

impl Form<'_> {
    /// The line of an entry.
    pub fn write<'v>(&self, key: &[u8], values: impl Iterator<Item = &'v [u8]>) -> Json {
        let key = self.exact(&self.declaration.key, key);
        let values: Vec<Json> = values
            .map(|value| self.exact(&self.declaration.value, value))
            .collect();
        match self.copies {
            Some(_) => json!({"key": key, "values": values}),
            None => json!({"key": key, "value": values.first()}),
        }
    }

    /// By its type, if that comes back as the same bytes; else as hex.
    fn exact(&self, place: &Place, bytes: &[u8]) -> Json {
        let shown = json!(place.decode(bytes));
        match self.read_back(place, &shown) {
            Ok(back) if back == bytes && !self.raw => shown,
            _ => json!(Value::Bytes(bytes.into())),
        }
    }

    /// What a line says, which may be anybody's.
    pub fn read(&self, line: &[u8]) -> Result<Line> {
        let object: serde_json::Map<String, Json> =
            serde_json::from_slice(line).map_err(|error| match error.is_eof() {
                true => anyhow!("it is cut"),
                false => anyhow!("it is no JSON object"),
            })?;
        let is_alone = object.len() == 1;
        let (mut key, mut values) = (None, None);
        for (name, json) in object {
            match (name.as_str(), json) {
                ("key", json) => key = Some(json),
                ("value", json) if values.is_none() => values = Some(vec![json]),
                ("values", Json::Array(all)) if values.is_none() => values = Some(all),
                (END, json) if is_alone => {
                    return json.as_u64().map(Line::End).context("it has no number");
                }
                (name, _) => bail!("its field `{}` has no place there", name.escape_debug()),
            }
        }
        let (key, values) = (
            key.context("it has no key")?,
            values.context("it has no value")?,
        );
        let copies = self.copies.unwrap_or(1);
        ensure!(
            values.len() == copies,
            "it has {} values, and the map {copies}",
            values.len(),
        );
        let Declaration {
            key: of_key,
            value: of_value,
            ..
        } = self.declaration;
        let key = self.read_back(of_key, &key).context("its key")?;
        let values = values.iter().map(|value| self.read_back(of_value, value));
        let values = values.collect::<Result<_>>().context("its value")?;
        Ok(Line::Entry(key, values))
    }

    fn read_back(&self, place: &Place, json: &Json) -> Result<Vec<u8>> {
        let text = match json {
            // Not in quotes, where it would be a text.
            Json::String(hex) if hex.starts_with("hex:") => hex.clone(),
            json => json.to_string(),
        };
        let (tags, mut bytes) = (Tags::default(), vec![0; place.ty.size]);
        let left_out = LeftOut::Refused;
        parse(place, &tags, &text, left_out, self.labels, &mut bytes)?;
        Ok(bytes)
    }
}

/// The last line.
pub fn end(count: u64) -> Json {
    json!({END: count})
}

/// The first line.
pub fn head(map: &Map, declaration: &Declaration) -> Json {
    json!({
        MARK: VERSION,
        "name": declaration.name,
        "type": map.type_name(),
        "key_size": map.key_size,
        "value_size": map.value_size,
        "max_entries": map.max_entries,
        "copies": map.copies(),
        "declaration": declaration.as_c(),
    })
}

/// Whatever the first line of a file says about its map must be so for the one
/// with this first line: but for names and room.
pub fn check_head(line: &[u8], wanted: &Json) -> Result<()> {
    let found: Json = serde_json::from_slice(line).unwrap_or_default();
    ensure!(
        found[MARK] == json!(VERSION),
        "its first line is not that of a saved map"
    );
    for what in ["key_size", "value_size", "copies", "declaration"] {
        if found[what] != wanted[what] {
            let text = |json: &Json| {
                json.as_str()
                    .map_or_else(|| json.to_string(), str::to_owned)
            };
            bail!(
                "{what} differs: {} in the file, {} in the map",
                text(&found[what]),
                text(&wanted[what])
            );
        }
    }
    Ok(())
}
