//! The description of an instance: JSON in a pinned, frozen map.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::{FOLDERS, META, is_pin_name};
use super::pinned;

/// The version of the layout: of the folders and of `meta`. ktally refuses a later one.
pub(super) const LAYOUT: u64 = 1;

/// In milliseconds since 1970. Later times cannot be formatted.
const YEAR_10000: u64 = 253_402_300_800_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedProgram {
    pub(crate) name: String,
    pub(crate) section: String,
    pub(crate) target: Option<String>,
    /// Whether its link runs a dispatcher, so that the program can be replaced.
    #[serde(rename = "entry", default)]
    pub(crate) has_dispatcher: bool,
}

/// What a reader needs beside the maps and their BTF. Fields of later versions are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    #[serde(rename = "ktally")]
    pub(super) layout: u64,
    /// Of the ktally that attached it.
    pub(crate) version: String,
    pub(crate) tally: String,
    #[serde(default)]
    pub(super) since_ms: u64,
    /// When it was attached, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) attached_at: u64,
    pub(crate) programs: Vec<PinnedProgram>,
    /// Every pin in its folders, as `FOLDER/NAME`.
    pub(crate) pins: Vec<String>,
    /// The options that were given, and their texts. Earlier versions did not write
    /// them.
    pub(crate) options: Option<BTreeMap<String, String>>,
    pub(super) options_since_ms: Option<u64>,
}

impl Meta {
    /// When it was attached, by the clock of the host.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_ms)
    }

    /// Since when its options are in force.
    pub(crate) fn options_since(&self) -> SystemTime {
        let since = self.options_since_ms.unwrap_or(self.since_ms);
        UNIX_EPOCH + Duration::from_millis(since)
    }

    /// Checks every name: anything may be pinned there, and these paths are removed.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)?;
        let version = json["version"].as_str().context("`version` is missing")?;
        if json["ktally"].as_u64().is_none_or(|layout| layout > LAYOUT) {
            bail!("ktally {version} attached it, in a way that this one does not know");
        }
        let meta: Self = serde_json::from_value(json)?;
        for PinnedProgram { name, .. } in &meta.programs {
            ensure!(is_pin_name(name), "`{name}` cannot be pinned");
        }
        for pin in &meta.pins {
            let is_ours = |(folder, name)| FOLDERS.contains(&folder) && is_pin_name(name);
            ensure!(
                pin.split_once('/').is_some_and(is_ours),
                "`{pin}` is not a pin in a folder of an instance"
            );
        }
        let latest = meta.since_ms.max(meta.options_since_ms.unwrap_or(0));
        ensure!(latest < YEAR_10000, "{latest} ms is not a time");
        Ok(meta)
    }

    /// The pins of some of the folders, each as folder and name.
    pub(super) fn pins_of<'a>(
        &'a self,
        kinds: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pins = self.pins.iter().filter_map(|pin| pin.split_once('/'));
        pins.filter(|(kind, _)| kinds.contains(kind))
    }

    pub(super) fn pin(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec(self)?;
        pinned::pin_frozen(&folder.join(META), &json)
    }

    pub(super) fn open(folder: &Path) -> Result<Self> {
        let bytes = pinned::read(&folder.join(META))?;
        Self::from_json(&String::from_utf8_lossy(&bytes))
    }
}

/// The unit of `meta`.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_comes_back() {
        let meta = Meta {
            layout: LAYOUT,
            tally: "a".into(),
            version: "9.9.9".into(),
            since_ms: 1234,
            attached_at: 5,
            programs: vec![PinnedProgram {
                name: "p".into(),
                section: "tp_btf/x".into(),
                target: None,
                has_dispatcher: true,
            }],
            pins: vec!["maps/a".into()],
            options: Some([("pid".into(), "42".into())].into()),
            options_since_ms: Some(5678),
        };
        let json = serde_json::to_string(&meta).unwrap();
        let with = |old: &str, new: &str| Meta::from_json(&json.replace(old, new));
        let error = |old: &str, new: &str| with(old, new).unwrap_err().to_string();
        assert_eq!(Meta::from_json(&json).unwrap(), meta);
        assert!(error("\"ktally\":1", "\"ktally\":2").contains("9.9.9"));
        assert!(with("1234", "253402300799999").is_ok());
        let never = error("1234", "253402300800000");
        assert_eq!(never, "253402300800000 ms is not a time");
        let earlier = with("\"options", "\"unknown").unwrap();
        assert_eq!(
            (earlier.options_since(), earlier.options),
            (meta.since(), None)
        );
        assert!(Meta::from_json("{}").is_err());
        assert!(Meta::from_json("\0\0").is_err());
    }

    #[test]
    fn pins_and_programs_lead_to_no_other_folder() {
        let parse = |pin: &str, program: &str| {
            let json = json!({
                "ktally": 1, "version": "1", "tally": "a", "attached_at": 5,
                "programs": [{"name": program, "section": "x"}], "pins": [pin],
            });
            Meta::from_json(&json.to_string())
        };
        assert!(parse("maps/@rodata", "p").is_ok());
        let within = ["", "a", "maps", "maps/", "links/a/b", "maps/a\0"];
        let outside = ["/maps/a", "other/a", "maps//etc", "links/../../x", "../x"];
        for pin in [&within[..], &outside].concat() {
            assert!(parse(pin, "p").is_err(), "{pin:?}");
        }
        for program in ["", "../p", "a/b", "/p", "."] {
            assert!(parse("maps/a", program).is_err());
        }
    }
}
