//! What runs in a cgroup, as its path tells: a unit of systemd, a container, a
//! pod, a machine. Pure.

use std::fmt::{self, Display, Formatter};

/// A cgroup's path, and what the last part of it that says so runs there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Workload<'p> {
    pub(super) subject: Subject<'p>,
    /// The pod that it is a container of.
    pub(super) pod: Option<String>,
    /// The path below it: `/init.scope`, or empty.
    pub(super) rest: &'p str,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Subject<'p> {
    /// No more is known than the path.
    Path,
    /// `ssh.service`, or of a user's systemd `user@1000.service/dbus.service`.
    Unit(String),
    Container {
        runtime: &'p str,
        id: &'p str,
    },
    /// A pod of Kubernetes or of podman, by its id.
    Pod(String),
    /// Of systemd-nspawn, libvirt or LXC.
    Machine {
        kind: &'static str,
        name: String,
    },
}

/// Enough of an id for people.
const SHORT: usize = 12;
const ID: usize = 64;

impl<'p> Workload<'p> {
    pub(super) fn of(path: &'p str) -> Self {
        let mut found = Self {
            subject: Subject::Path,
            pod: None,
            rest: path,
        };
        // Units are in the slices of a systemd. A user may run another systemd.
        let (mut manager, mut is_in_slices) = (String::new(), true);
        let (mut parent, mut end) = ("", 0);
        for part in path.split('/') {
            end += part.len();
            let below = &path[end..];
            end += 1;
            if part.is_empty() {
                continue;
            }
            // Of a runtime that takes a slice for a folder: `SLICE:cri-containerd:ID`.
            let folder = part.split(':').next().unwrap_or(part);
            let pod = pod(folder, &path[..end - 1]);
            if let Some(pod) = &pod {
                found.pod = Some(pod.clone());
            }
            let named = container(part, parent)
                .or_else(|| pod.map(Subject::Pod))
                .or_else(|| machine(part, parent));
            if let Some(subject) = named {
                (found.subject, found.rest) = (subject, below);
                is_in_slices = false;
            } else if is_in_slices && is_unit(part) {
                found.subject = Subject::Unit(format!("{manager}{part}"));
                found.rest = below;
                let has_own_units = part.starts_with("user@");
                if has_own_units {
                    manager = format!("{part}/");
                }
                is_in_slices = part.ends_with(".slice") || has_own_units;
            } else {
                is_in_slices = false;
            }
            parent = part;
        }
        found
    }

    /// The id of the container or pod.
    pub(super) fn id(&self) -> Option<&str> {
        match &self.subject {
            Subject::Container { id, .. } => Some(id),
            Subject::Pod(id) => Some(id),
            _ => None,
        }
    }

    /// Whether this text stands for it, and not for what is in it: a unit, a
    /// machine, the start of an id, or the end of this name of a container or pod.
    pub(super) fn is_called(&self, text: &str, name: Option<&str>) -> bool {
        const LEAST: usize = 4;
        let ends = |name: &str| {
            let front = name.strip_suffix(text);
            front.is_some_and(|front| front.is_empty() || front.ends_with('/'))
        };
        let is_it = match &self.subject {
            Subject::Path => false,
            Subject::Unit(unit) => ends(unit),
            Subject::Machine { name, .. } => name == text,
            Subject::Container { runtime, .. } if *runtime == CONMON => false,
            Subject::Container { id, .. } => id.starts_with(text) && text.len() >= LEAST,
            Subject::Pod(id) => id.starts_with(&text.replace('_', "-")) && text.len() >= LEAST,
        };
        self.rest.is_empty() && !text.is_empty() && (is_it || name.is_some_and(ends))
    }

    /// For people; `name` is what a container or pod is called.
    pub(super) fn shown(&self, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{}{name}{}", self.subject, self.rest)
    }
}

impl Display for Subject<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => Ok(()),
            Self::Unit(unit) => f.write_str(unit),
            Self::Container { runtime, id } => write!(f, "{runtime} {}", &id[..SHORT]),
            // What stands before the first `-` is short enough.
            Self::Pod(id) => {
                let first = id.split('-').next().unwrap_or(id);
                write!(f, "pod {}", &first[..first.len().min(SHORT)])
            }
            Self::Machine { kind, name } => write!(f, "{kind} {name}"),
        }
    }
}

/// The process that looks after a container of podman or CRI-O.
const CONMON: &str = "conmon";

/// `docker-ID.scope`, `ID` below `docker`, `SLICE:cri-containerd:ID`.
fn container<'p>(part: &'p str, parent: &'p str) -> Option<Subject<'p>> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(ID)?)?;
    let prefix = match prefix {
        "" => parent,
        prefix => prefix.strip_suffix(['-', ':'])?,
    };
    let runtime = match prefix.rsplit(':').next()? {
        "docker" => "docker",
        "libpod" => "podman",
        "cri-containerd" => "containerd",
        "crio" => "cri-o",
        "nerdctl" => "nerdctl",
        other if other.ends_with(CONMON) => CONMON,
        _ => "container",
    };
    is_hex(id).then_some(Subject::Container { runtime, id })
}

/// `kubepods-burstable-podUID.slice`, `podUID` below `kubepods`, and of podman
/// `machine-libpod_pod_ID.slice`. A slice writes `_` where a uid has `-`.
fn pod(part: &str, path: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    if let Some((_, id)) = name.split_once("libpod_pod_") {
        return is_hex(id).then(|| id.to_owned());
    }
    if !path.contains("kubepods") {
        return None;
    }
    let uid = match name.rsplit_once("-pod") {
        Some((_, uid)) => uid,
        None => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    // A static pod has a hash in the place of a UUID.
    let is_uid = matches!(uid.len(), 32 | 36) && is_hex(&uid.replace('-', ""));
    is_uid.then_some(uid)
}

fn machine(part: &str, parent: &str) -> Option<Subject<'static>> {
    let subject = |kind, name: &str| {
        let name = unescaped(name);
        (!name.is_empty()).then_some(Subject::Machine { kind, name })
    };
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return subject("lxc", name);
    }
    if parent == "lxc" {
        return subject("lxc", part);
    }
    if let Some(unit) = part.strip_prefix("systemd-nspawn@") {
        return subject("machine", unit.strip_suffix(".service")?);
    }
    let scope = part.strip_prefix("machine-")?;
    subject("machine", scope.strip_suffix(".scope")?)
}

/// A name out of that of a unit: `\x2d` is `-`.
fn unescaped(unit: &str) -> String {
    let mut parts = unit.split("\\x");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                name.push(byte.into());
                name.push_str(&part[2..]);
            }
            None => {
                name.push_str("\\x");
                name.push_str(part);
            }
        }
    }
    name
}

/// Of the types of units that have cgroups.
fn is_unit(part: &str) -> bool {
    const TYPES: [&str; 6] = ["service", "scope", "slice", "socket", "mount", "swap"];
    let name_and_type = part.rsplit_once('.');
    name_and_type.is_some_and(|(name, of)| !name.is_empty() && TYPES.contains(&of))
}

fn is_hex(text: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    !text.is_empty() && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests;
