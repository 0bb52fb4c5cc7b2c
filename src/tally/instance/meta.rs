//! What an instance says of itself: a pinned map of one value, JSON, frozen
//! once it is written. And its state, in a map of three numbers: one update
//! either happens or not, whenever a process is killed. Only the owner opens the
//! state; once the counts are final, readers get a frozen copy.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::MapType;
use serde_json::{Map as Object, Value, json};

use super::folder::FOLDERS;
use crate::error::NotFound;
use crate::map::{Access, Map, MapRef, NewMap, Update, create};
use crate::tally::Given;

/// What pins are called: these stand beside the folders.
pub(super) const META: &str = "meta";
pub(super) const STATE: &str = "state";
pub(super) const BTF: &str = "btf";
/// The frozen copy of the state, and its name while readers may not open it yet.
pub(super) const STOPPED: &str = "stopped";
pub(super) const UNFINISHED: &str = "+stopped";
/// Every pin that stands beside the folders. `meta` is the last to go.
pub(super) const WORDS: [&str; 5] = [STATE, STOPPED, UNFINISHED, BTF, META];

/// The key of an array's first value.
const FIRST: [u8; 4] = [0; 4];

/// Of the folders and of what follows. A later one is refused by name.
const LAYOUT: u64 = 1;

/// In milliseconds since 1970. What is later is not written as a date.
const YEAR_10000: u64 = 253_402_300_800_000;

/// A program of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in C.
    pub name: String,
    /// Of its `SEC(...)`, and what its `ATTACH(...)` came to.
    pub section: String,
    /// What its `ATTACH(...)` came to.
    pub target: Option<String>,
    /// Whether its link runs an entry, so that the program can be replaced.
    pub has_entry: bool,
}

/// What a reader needs to know beside the maps and their BTF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Of the tally.
    pub tally: String,
    /// Of the ktally that attached it.
    pub version: String,
    /// When it was attached, by the clock of the host.
    pub since: SystemTime,
    /// The same by `CLOCK_MONOTONIC`, in nanoseconds.
    pub attached_at: u64,
    /// In the order of the object.
    pub programs: Vec<Member>,
    /// Every pin in its folders, as `FOLDER/NAME`.
    pub pins: Vec<String>,
    /// The options that were given, and their texts. Unknown where an earlier
    /// version attached it.
    pub options: Option<Vec<Given>>,
    /// Since when these options hold.
    pub options_since: SystemTime,
}

impl Meta {
    fn to_json(&self) -> String {
        let millis = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_millis() as u64
        };
        let options = self.options.as_ref().map(|options| {
            let options = options.iter();
            let options = options.map(|(name, text)| (name.clone(), json!(text)));
            options.collect::<Object<String, Value>>()
        });
        let programs = self.programs.iter().map(|program| {
            json!({
                "name": program.name,
                "section": program.section,
                "target": program.target,
                "entry": program.has_entry,
            })
        });
        json!({
            "ktally": LAYOUT,
            "version": self.version,
            "tally": self.tally,
            "since_ms": millis(self.since),
            "attached_at": self.attached_at,
            "programs": programs.collect::<Vec<_>>(),
            "pins": self.pins,
            "options": options,
            "options_since_ms": millis(self.options_since),
        })
        .to_string()
    }

    /// Fields that a later version added are passed over.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Object<String, Value> = serde_json::from_str(text)?;
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        let text = |json: &Object<String, Value>, name: &str| {
            let text = json.get(name).and_then(Value::as_str);
            text.map(str::to_owned)
                .ok_or_else(|| anyhow!("`{name}` is missing"))
        };
        let version = text(&json, "version")?;
        if number("ktally").is_none_or(|layout| layout > LAYOUT) {
            bail!("ktally {version} attached it, in a way that this one does not know");
        }
        let list = |name: &str| json.get(name).and_then(Value::as_array);
        let programs = list("programs").into_iter().flatten();
        let member = |program: &Value| {
            let program = program.as_object().context("a program is no object")?;
            let name = text(program, "name")?;
            ensure!(is_name(&name), "`{name}` cannot be pinned");
            Ok(Member {
                section: text(program, "section")?,
                target: text(program, "target").ok(),
                has_entry: program.get("entry").and_then(Value::as_bool) == Some(true),
                name,
            })
        };
        let pins = list("pins").into_iter().flatten();
        let pin = |pin: &Value| {
            let pin = pin.as_str().context("a pin is not text")?;
            let is_ours = |(folder, name)| FOLDERS.contains(&folder) && is_name(name);
            ensure!(
                pin.split_once('/').is_some_and(is_ours),
                "`{pin}` is not a pin in a folder of an instance"
            );
            Ok(pin.to_owned())
        };
        let options = json.get("options").and_then(Value::as_object);
        let options = options.map(|options| {
            let texts = options
                .iter()
                .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
            texts.collect()
        });
        let time = |name: &str| {
            let since = number(name).unwrap_or(0);
            ensure!(since < YEAR_10000, "`{name}` is no time: {since}");
            Ok(UNIX_EPOCH + Duration::from_millis(since))
        };
        let since = time("since_ms")?;
        let options_since = match json.contains_key("options_since_ms") {
            true => time("options_since_ms")?,
            false => since,
        };
        Ok(Self {
            tally: text(&json, "tally")?,
            since,
            attached_at: number("attached_at").context("`attached_at` is missing")?,
            programs: programs.map(member).collect::<Result<_>>()?,
            pins: pins.map(pin).collect::<Result<_>>()?,
            options,
            options_since,
            version,
        })
    }

    pub(super) fn pin(&self, folder: &Path) -> Result<()> {
        pin_bytes(META, self.to_json().as_bytes(), folder)
    }

    /// An error where what is pinned there is nothing of ktally's.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let bytes = read_bytes(&folder.join(META))?;
        Self::from_json(&String::from_utf8_lossy(&bytes))
    }
}

/// What is to become of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// It counts.
    Count,
    /// It counts no more, and can be read.
    Keep,
}

/// The state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) goal: Goal,
    /// When it stopped, by `CLOCK_MONOTONIC`; its counts are final then.
    pub(super) stopped_at: Option<u64>,
    /// What the kernel had missed by then, where it is known.
    pub(super) missed: Option<u64>,
}

impl State {
    pub(super) const COUNTING: Self = Self {
        goal: Goal::Count,
        stopped_at: None,
        missed: None,
    };

    fn to_bytes(self) -> Vec<u8> {
        let goal = match self.goal {
            Goal::Count => 0,
            Goal::Keep => 2,
        };
        [
            goal,
            self.stopped_at.unwrap_or(0),
            self.missed.map_or(0, |missed| missed + 1),
        ]
        .map(u64::to_ne_bytes)
        .concat()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        ensure!(
            bytes.len() == 24,
            "the state has {} bytes, not 24",
            bytes.len()
        );
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()));
        let mut next = || numbers.next().context("the state is too short");
        Ok(Self {
            goal: match next()? {
                0 => Goal::Count,
                // Earlier versions had another word for what they would remove.
                _ => Goal::Keep,
            },
            stopped_at: Some(next()?).filter(|at| *at != 0),
            missed: next()?.checked_sub(1),
        })
    }

    pub(super) fn pin(self, folder: &Path) -> Result<()> {
        let map = new_map(STATE, self.to_bytes().len())?;
        write_first(&map, &self.to_bytes())?;
        map.pin(&folder.join(STATE))
    }

    /// In one update, which no signal cuts in half.
    pub(super) fn write(self, folder: &Path) -> Result<()> {
        let map = open_map(&folder.join(STATE), false)?;
        write_first(&map, &self.to_bytes())
    }

    pub(super) fn open(folder: &Path) -> Result<Self> {
        Self::from_bytes(&read_bytes(&folder.join(STATE))?)
    }

    /// The copy for readers, which they cannot open before it is finished.
    pub(super) fn pin_unfinished(self, folder: &Path) -> Result<()> {
        pin_bytes(UNFINISHED, &self.to_bytes(), folder)
    }

    /// What readers get of it: `None` while it counts.
    pub(super) fn stopped(folder: &Path) -> Result<Option<Self>> {
        match read_bytes(&folder.join(STOPPED)) {
            Ok(bytes) => Self::from_bytes(&bytes).map(Some),
            Err(error) if error.is::<NotFound>() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What bpffs takes as a name, so a path with it leads to no other folder.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '.', '\0'])
}

fn new_map(pin: &str, size: usize) -> Result<Map> {
    let name = pin.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let new = NewMap {
        type_number: MapType::Array as u32,
        name: format!("ktally_{name}"),
        key_size: 4,
        value_size: u32::try_from(size)?,
        max_entries: 1,
        flags: 0,
    };
    create(&new, None, None)
}

/// A map of one value that nobody changes any more.
pub(super) fn pin_bytes(name: &str, bytes: &[u8], folder: &Path) -> Result<()> {
    let map = new_map(name, bytes.len())?;
    write_first(&map, bytes)?;
    map.freeze()?;
    map.pin(&folder.join(name))
}

pub(super) fn open_map(path: &Path, read_only: bool) -> Result<Map> {
    let access = match read_only {
        true => Access::Read,
        false => Access::Write,
    };
    MapRef::Pin(path.to_owned()).open_alone(access)
}

pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    first(&open_map(path, true)?)
}

/// The value of a map that `new_map` made. What is pinned under that name may be
/// another's.
pub(super) fn first(map: &Map) -> Result<Vec<u8>> {
    check_shape(map)?;
    let value = map.lookup(&FIRST)?;
    value.with_context(|| format!("map {} is empty", map.title()))
}

fn write_first(map: &Map, value: &[u8]) -> Result<()> {
    check_shape(map)?;
    map.update(&FIRST, value, Update::default())
}

pub(super) fn check_shape(map: &Map) -> Result<()> {
    ensure!(
        (map.ty, map.key_size, map.max_entries) == (MapType::Array, FIRST.len(), 1),
        "map {} is not an array of one value",
        map.title()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back() {
        let meta = Meta {
            tally: "a".into(),
            version: "9.9.9".into(),
            since: UNIX_EPOCH + Duration::from_millis(1234),
            attached_at: 5,
            programs: vec![Member {
                name: "p".into(),
                section: "tp_btf/x".into(),
                target: None,
                has_entry: true,
            }],
            pins: vec!["maps/a".into()],
            options: Some(vec![("pid".into(), "42".into())]),
            options_since: UNIX_EPOCH + Duration::from_millis(5678),
        };
        assert_eq!(Meta::from_json(&meta.to_json()).unwrap(), meta);
        let later = meta.to_json().replace("\"ktally\":1", "\"ktally\":2");
        let error = Meta::from_json(&later).unwrap_err().to_string();
        assert!(error.contains("9.9.9"), "{error}");
        let latest = meta.to_json().replace("1234", "253402300799999");
        assert!(Meta::from_json(&latest).is_ok());
        let never = meta.to_json().replace("1234", "253402300800000");
        let error = Meta::from_json(&never).unwrap_err().to_string();
        assert_eq!(error, "`since_ms` is no time: 253402300800000");
        let earlier = meta.to_json().replace("\"options", "\"unknown");
        let earlier = Meta::from_json(&earlier).unwrap();
        assert_eq!((earlier.options, earlier.options_since), (None, meta.since));
        assert!(Meta::from_json("{}").is_err());
        assert!(Meta::from_json("\0\0").is_err());
    }

    /// What is pinned may be anybody's, and these are paths of what is removed.
    #[test]
    fn pins_and_programs_lead_to_no_other_folder() {
        let said = |pin: &str, program: &str| {
            json!({
                "ktally": 1, "version": "1", "tally": "a", "attached_at": 5,
                "programs": [{"name": program, "section": "x"}], "pins": [pin],
            })
            .to_string()
        };
        assert!(Meta::from_json(&said("maps/@rodata", "p")).is_ok());
        for pin in [
            "",
            "a",
            "maps",
            "maps/",
            "/maps/a",
            "other/a",
            "maps//etc",
            "links/../../x",
            "links/a/b",
            "../x",
            "maps/a\0",
        ] {
            assert!(Meta::from_json(&said(pin, "p")).is_err(), "{pin:?}");
        }
        for program in ["", "../p", "a/b", "/p", "."] {
            assert!(Meta::from_json(&said("maps/a", program)).is_err());
        }
    }

    #[test]
    fn a_state_is_three_numbers() {
        let stopped = State {
            goal: Goal::Keep,
            stopped_at: Some(7),
            missed: Some(0),
        };
        for state in [State::COUNTING, stopped] {
            assert_eq!(State::from_bytes(&state.to_bytes()).unwrap(), state);
        }
        assert!(State::from_bytes(&[0; 16]).is_err());
    }
}
