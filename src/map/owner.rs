//! Local storage: each value of such a map belongs to a task, a cgroup, a socket
//! or a file. The kernel takes a descriptor of the owner for a key; here and on
//! the command line a key is the owner's id.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::read::Entry;
use super::{Map, Outcome, helper};
use crate::error::not_found;
use crate::internal::STORAGE;
use crate::names::cgroup_folder;
use crate::schema::{Decoder, Tags};
use crate::sys;
use crate::sys::program::{IterateOver, iterate, iterator, walk};
use crate::sys::{pidfd_getfd, pidfd_open};

/// Whose storage a map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A thread, by its number.
    Task,
    /// A cgroup, by its id.
    Cgroup,
    /// A socket, by its inode, as /proc/PID/fd has it.
    Socket,
    /// A file, by its inode.
    File,
}

impl Owner {
    /// `None` where keys are what their bytes say.
    pub(super) fn from_type_number(type_number: u32) -> Option<Self> {
        Some(match type_number {
            24 => Self::Socket,
            28 => Self::File,
            29 => Self::Task,
            32 => Self::Cgroup,
            _ => return None,
        })
    }

    /// How an id is written.
    pub(super) fn tags(self) -> Tags {
        Tags {
            decoder: (self == Self::Cgroup).then_some(Decoder::CGROUP),
            ..Tags::default()
        }
    }

    fn open(self, id: u64) -> Result<OwnedFd> {
        match self {
            Self::Task => open_task(id),
            Self::Cgroup => open_cgroup(id),
            Self::Socket => open_socket(id),
            Self::File => bail!("a file is given by its path"),
        }
    }
}

impl Map {
    pub(super) fn owner(&self) -> Option<Owner> {
        Owner::from_type_number(self.type_number)
    }

    /// Whether its keys are files, which [`Map::file_key`] opens.
    pub(crate) fn is_of_files(&self) -> bool {
        self.owner() == Some(Owner::File)
    }

    /// The key of a file, which stays open as long as this map: an inode's number
    /// alone leads to no file.
    pub(crate) fn file_key(&self, path: &Path) -> Result<Vec<u8>> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::NotFound => not_found(format!("there is no file `{}`", path.display())),
            _ => anyhow!("failed to open `{}`: {error}", path.display()),
        })?;
        let id = file.metadata()?.ino();
        self.files.borrow_mut().insert(id, file.into());
        Ok(id.to_ne_bytes().to_vec())
    }

    /// A key as the kernel takes it, and what has to stay open until then.
    pub(super) fn with_owner<'k>(&self, key: &'k [u8]) -> Result<(Cow<'k, [u8]>, Option<OwnedFd>)> {
        let Some(owner) = self.owner() else {
            return Ok((key.into(), None));
        };
        let id = key.first_chunk().copied().map(u64::from_ne_bytes);
        let id = id.context("an id has 8 bytes")?;
        if let Some(file) = self.files.borrow().get(&id) {
            return Ok((file.as_raw_fd().to_ne_bytes().to_vec().into(), None));
        }
        let fd = owner.open(id)?;
        Ok((fd.as_raw_fd().to_ne_bytes().to_vec().into(), Some(fd)))
    }

    /// Whether its keys are tasks.
    pub(crate) fn is_of_tasks(&self) -> bool {
        self.owner() == Some(Owner::Task)
    }

    /// Hands out the values of all owners, as an iterator of the kernel finds them.
    pub(super) fn read_owners(&self, owner: Owner, entry: Entry<'_>) -> Result<Outcome> {
        let over = match owner {
            Owner::Task => IterateOver::All,
            Owner::Cgroup => IterateOver::Cgroups,
            Owner::Socket => IterateOver::Map(self.fd()),
            Owner::File => bail!(self.is_of_a_type(
                "which cannot be read whole: the kernel has no iterator of files; `lookup MAP PATH` reads the storage of one"
            )),
        };
        // The program has the name of the map's type.
        let wanted = wanted(self, false)?;
        let mut helper = helper::load(&STORAGE, &self.type_name(), self, &wanted[..])?;
        let records = iterate(helper::program(&mut helper)?.as_fd(), over);
        let records = File::from(records.context("failed to iterate")?);
        read_records(records, self.value_size, entry)
    }
}

/// The constants of `storage.bpf.c`: the size of a value, and whether only tasks that
/// have not exited are wanted.
fn wanted(map: &Map, alive_only: bool) -> Result<[u32; 2]> {
    Ok([u32::try_from(map.value_size)?, alive_only.into()])
}

/// An iterator over the storage of all tasks that have not exited: reading it takes no
/// privileges.
#[derive(Debug)]
pub(crate) struct TaskWalk {
    iterator: Iterator,
    value_size: usize,
}

#[derive(Debug)]
enum Iterator {
    Link(OwnedFd),
    /// Opened as a place, which stays when the pin goes: each walk opens it anew.
    Pin(File),
}

impl TaskWalk {
    /// By the program of the tally that made the map, or by one that is loaded for it
    /// where that tally has none.
    pub(crate) fn new(map: &Map, program: Option<BorrowedFd<'_>>) -> Result<Self> {
        // The link keeps the program and the map.
        let link = match program {
            Some(program) => iterator(program, IterateOver::All),
            None => {
                let wanted = wanted(map, true)?;
                let mut helper = helper::load(&STORAGE, &map.type_name(), map, &wanted[..])?;
                iterator(helper::program(&mut helper)?.as_fd(), IterateOver::All)
            }
        };
        Ok(Self {
            iterator: Iterator::Link(link.context("failed to iterate over tasks")?),
            value_size: map.value_size,
        })
    }

    /// One that is pinned, of a map with values of the same size.
    pub(crate) fn pinned(path: &Path, map: &Map) -> Result<Self> {
        let place = File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path);
        let place = place.with_context(|| format!("failed to open `{}`", path.display()))?;
        Ok(Self {
            iterator: Iterator::Pin(place),
            value_size: map.value_size,
        })
    }

    /// Pins it.
    pub(crate) fn pin(&self, path: &Path) -> Result<()> {
        let Iterator::Link(link) = &self.iterator else {
            bail!("the iterator is pinned elsewhere");
        };
        sys::map::pin(link.as_fd(), path)
            .with_context(|| format!("failed to pin to `{}`", path.display()))
    }

    /// Hands out the number of each thread that has a value, and the value.
    pub(crate) fn read(&self, entry: Entry<'_>) -> Result<Outcome> {
        let records = match &self.iterator {
            Iterator::Link(link) => walk(link.as_fd()).map(File::from),
            Iterator::Pin(place) => File::open(format!("/proc/self/fd/{}", place.as_raw_fd())),
        };
        let records = records.context("failed to iterate over tasks")?;
        read_records(records, self.value_size, entry)
    }
}

/// What the programs of `storage.bpf.c` write: an id and a value each.
fn read_records(records: impl Read, value_size: usize, entry: Entry<'_>) -> Result<Outcome> {
    let mut records = BufReader::with_capacity(64 << 10, records);
    let mut record = vec![0; size_of::<u64>() + value_size];
    loop {
        match records.read_exact(&mut record) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Outcome::Complete);
            }
            // The walk of cgroups ends with its first buffer.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let why = "the kernel hands out 32 KiB of it, and no more";
                return Ok(Outcome::Incomplete(why.to_owned()));
            }
            Err(error) => return Err(error).context("failed to read an iterator"),
        }
        let (key, value) = record.split_at(size_of::<u64>());
        if entry(key, value).is_break() {
            return Ok(Outcome::Stopped);
        }
    }
}

pub(super) fn open_cgroup(id: u64) -> Result<OwnedFd> {
    let folder = cgroup_folder(id);
    let folder = folder.ok_or_else(|| not_found(format!("there is no cgroup with id {id}")))?;
    let opened = File::open(&folder);
    let what = || format!("failed to open `{}`", folder.display());
    Ok(opened.with_context(what)?.into())
}

fn open_task(id: u64) -> Result<OwnedFd> {
    let pid = i32::try_from(id).ok().filter(|pid| *pid > 0);
    let opened = pid.map(pidfd_open);
    match opened {
        Some(Ok(fd)) => Ok(fd),
        Some(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            bail!("{id} is a thread: before Linux 6.9 only processes can be opened")
        }
        Some(Err(error)) if error.raw_os_error() != Some(libc::ESRCH) => {
            Err(anyhow!("failed to open process {id}: {error}"))
        }
        _ => Err(not_found(format!("there is no process {id}"))),
    }
}

/// Of whichever process has it open.
fn open_socket(inode: u64) -> Result<OwnedFd> {
    let wanted = format!("socket:[{inode}]");
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<i32>().ok();
    let mut refused = None;
    let processes = fs::read_dir("/proc").context("failed to look through /proc")?;
    for process in processes.filter_map(|it| Some(it.ok()?.path())) {
        let Some(pid) = number(&process) else {
            continue;
        };
        for link in fs::read_dir(process.join("fd")).into_iter().flatten() {
            let Ok(link) = link.map(|link| link.path()) else {
                continue;
            };
            let is_it = fs::read_link(&link).is_ok_and(|target| target == Path::new(&wanted));
            if is_it && let Some(fd) = number(&link) {
                match pidfd_open(pid).and_then(|process| pidfd_getfd(process.as_fd(), fd)) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => refused = Some((pid, error)),
                }
            }
        }
    }
    Err(match refused {
        Some((pid, error)) => anyhow!(
            "failed to take {wanted} from process {pid}: {error}; that needs CAP_SYS_PTRACE"
        ),
        None => not_found(format!("no process has {wanted} open")),
    })
}
