//! The command line of `ktally map`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::Selection;
use super::values::{decoder, duration, interval, whole};
use crate::schema::Decoder;

#[derive(Debug, Args)]
#[command(after_help = "\
A MAP is one of
  42           the id that `map list` shows
  ./PATH       where it is pinned: anything with a `/`
  NAME         what it is called, as `map list` shows it
  NAME:42      the one of several with this name
  name:42      the map that is called 42
A KEY or VALUE is written by its type: 42, -1, 0x2a, comm=bash,call=read, a.b=1,
[1,2,3], JSON, or hex:2a000000. `map show MAP` has the types. In storage of tasks,
cgroups, sockets and files a KEY is the number of a process or thread, the folder
or id of a cgroup, the inode of a socket in /proc/PID/fd, or the path of a file.

`ktally help maps` has the whole page.")]
pub(crate) struct MapArgs {
    /// Keys and values as the hex digits of their bytes, in and out
    #[arg(long, global = true)]
    pub(crate) raw: bool,
    /// What to do with a map
    #[command(subcommand)]
    pub(crate) action: MapAction,
}

// A MAP is an id, a pinned path, or a name (`NAME:ID` where several have it); a KEY or VALUE is
// written by its type.
/// Look at the live maps of any program, and change them
#[derive(Debug, Subcommand)]
pub(crate) enum MapAction {
    /// Show every map of this host
    List,
    /// Show one map in full, with its types as C
    Show {
        /// An id, a pinned path, or a name
        map: String,
    },
    /// Show all entries
    #[command(mut_arg("sort", |arg| arg.help("Sort by this column; `-COLUMN` reverses the order [with --top: the first column of numbers]")))]
    Dump(DumpArgs),
    /// Show the value of a key; exit 3 if it does not exist
    Lookup(LookupArgs),
    /// Replace the value of a key
    Update(UpdateArgs),
    /// Delete keys; exit 3 if any did not exist
    Delete {
        /// An id, a pinned path, or a name
        map: String,
        /// Written by their type
        #[arg(required = true, allow_negative_numbers = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Delete all keys
    Clear {
        /// An id, a pinned path, or a name
        map: String,
        /// Confirm that all keys are to be deleted
        #[arg(long)]
        yes: bool,
    },
    /// Show the key after this one, or the first; exit 3 at the end
    ///
    /// After a key that does not exist (any more) comes the first, so a walk may start again while
    /// others delete keys.
    NextKey {
        /// An id, a pinned path, or a name
        map: String,
        /// Written by its type
        #[arg(allow_negative_numbers = true)]
        key: Option<String>,
    },
    /// Add to a number in place, in the kernel, atomically
    ///
    /// The map is a hash or an array, also a per-CPU one. It is not frozen, and has no bpf_spin_lock in
    /// its values.
    Add(AddArgs),
    /// Take all numbers out and leave zeroes, without losing an increment
    ///
    /// Numbers are integers of 4 and 8 bytes, histograms, and arrays of them; gauges, text and all else
    /// stay. What is taken is nowhere else until it is written: where that fails, or the reader of a
    /// pipe has gone (`| head`), all of it is kept in a file ktally-drained-*.jsonl, in TMPDIR or the
    /// current folder, and the exit code is 1. Ctrl-C waits until it is written. Only SIGKILL loses it.
    Drain {
        /// An id, a pinned path, or a name
        map: String,
    },
    /// Show what changes: new, changed and gone keys each interval
    Watch(WatchArgs),
    /// Write all entries to a file, as JSON lines
    ///
    /// The file is replaced when all entries are written. If some entries cannot be
    /// read (exit code 4), it stays as it was, and FILE.incomplete has the others.
    Save {
        /// An id, a pinned path, or a name
        map: String,
        /// `-` is standard output
        file: PathBuf,
    },
    /// Write the entries of a file into a map of the same type
    Restore {
        /// An id, a pinned path, or a name
        map: String,
        /// `-` is standard input
        file: PathBuf,
        /// Replace no entry that exists
        #[arg(long)]
        noexist: bool,
    },
    /// Keep a map in bpffs
    Pin {
        /// An id, a pinned path, or a name
        map: String,
        /// A new file, below /sys/fs/bpf
        path: PathBuf,
    },
    /// Remove a pin
    Unpin {
        /// A pinned path
        path: PathBuf,
    },
    /// Make a map and pin it
    Create(CreateArgs),
    /// Make a map read-only for user space, permanently
    ///
    /// Programs can still write to it. From then on `update`, `delete`, `add` and `drain` fail, and so
    /// does another `freeze`. A map cannot be frozen if it has a bpf_spin_lock or a bpf_timer in its
    /// values, or if a process has it mapped into memory to write to it.
    Freeze {
        /// An id, a pinned path, or a name
        map: String,
    },
    /// Add a value to a queue, a stack or a bloom filter
    Push {
        /// An id, a pinned path, or a name
        map: String,
        /// Written by its type; or `-` for standard input, or @FILE
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Replace the oldest value if it is full
        #[arg(long)]
        replace: bool,
    },
    /// Take the next value of a queue or a stack; exit 3 if it is empty
    Pop {
        /// An id, a pinned path, or a name
        map: String,
    },
    /// Show the next value of a queue or a stack; exit 3 if it is empty. Or look for a value in a bloom
    /// filter; exit 3 if it was never pushed
    Peek {
        /// An id, a pinned path, or a name
        map: String,
        /// Of a bloom filter; written by its type
        #[arg(allow_negative_numbers = true)]
        value: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Show a field of the key or value by a decoder, as `ip=ksym` or `slots=log2`; may be repeated
    #[arg(long = "as", value_name = "FIELD=DECODER", value_parser = decoder)]
    pub(crate) decoders: Vec<(String, Decoder)>,
    /// An id, a pinned path, or a name
    pub(crate) map: String,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Show the value of each CPU of a per-CPU map, not their sum
    #[arg(long)]
    pub(crate) per_cpu: bool,
    /// Stop after N entries
    #[arg(long, value_name = "N", value_parser = whole::<u64>(0, u64::MAX), allow_negative_numbers = true)]
    pub(crate) limit: Option<u64>,
    /// Show the entries of the maps in a map of maps
    #[arg(long, conflicts_with_all = ["by", "sort", "top", "filters"])]
    pub(crate) recurse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LookupArgs {
    /// An id, a pinned path, or a name
    pub(crate) map: String,
    /// Written by its type: `42`, `comm=bash,call=read`, JSON, `hex:2a000000`
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: String,
    /// Show the value of each CPU of a per-CPU map, not their sum
    #[arg(long)]
    pub(crate) per_cpu: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("must").multiple(false))]
#[command(group = ArgGroup::new("rest").multiple(false))]
#[command(group = ArgGroup::new("cpus").multiple(false))]
pub(crate) struct UpdateArgs {
    /// An id, a pinned path, or a name
    pub(crate) map: String,
    /// Written by its type: `42`, `comm=bash,call=read`, JSON, `hex:2a000000`
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: String,
    /// Written by its type; or `-` for standard input, or @FILE (put a text that begins so in
    /// quotes: '"@x"'). For a value that is a descriptor, write what `dump` shows: the id of a map or
    /// program, or the path or id of a cgroup
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: String,
    /// Replace only: the key must exist
    #[arg(long, group = "must")]
    pub(crate) exist: bool,
    /// Insert only: the key must not exist
    #[arg(long, group = "must")]
    pub(crate) noexist: bool,
    /// Hold the bpf_spin_lock in the value. The lock itself is not given, and stays as it is
    #[arg(long)]
    pub(crate) lock: bool,
    /// Keep the values of fields that are left out
    #[arg(long, group = "rest")]
    pub(crate) merge: bool,
    /// Set fields that are left out to zero
    #[arg(long, group = "rest")]
    pub(crate) zero: bool,
    /// Set the value of this CPU of a per-CPU map [default: CPU 0 gets the value, the others zeroes]
    #[arg(long, value_name = "N", group = "cpus", value_parser = whole::<usize>(0, u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) cpu: Option<usize>,
    /// Set the same value for every CPU of a per-CPU map
    #[arg(long, group = "cpus")]
    pub(crate) all_cpus: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// An id, a pinned path, or a name
    pub(crate) map: String,
    /// Written by its type: `42`, `comm=bash,call=read`, JSON, `hex:2a000000`
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: String,
    /// A whole number, which may be negative. The field may be left out if there is only one
    #[arg(allow_negative_numbers = true, value_name = "[FIELD=]DELTA")]
    pub(crate) delta: String,
    /// Insert zeroes first if the key does not exist
    #[arg(long)]
    pub(crate) create: bool,
    /// Repeat the addition N times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>(1, u64::MAX), allow_negative_numbers = true)]
    pub(crate) repeat: u64,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// An id, a pinned path, or a name
    pub(crate) map: String,
    /// Interval between readings
    #[arg(short = 'i', long, value_name = "DURATION", value_parser = interval, default_value = "1s", allow_hyphen_values = true)]
    pub(crate) every: Duration,
    /// End after this time [at Ctrl-C, if not given]
    #[arg(short = 'd', long = "for", value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) run_for: Option<Duration>,
    /// Exit with 4 if any counter was reset
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Where to pin it: the kernel frees a map that is neither pinned nor open
    pub(crate) path: PathBuf,
    /// The name of the map, at most 15 characters [default: the file's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Like `hash`, `array`, `percpu_hash`, `lru_hash`, `queue`
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "like")]
    pub(crate) kind: Option<String>,
    /// Bytes of a key
    #[arg(long, value_name = "BYTES", value_parser = whole::<u32>(0, u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) key: Option<u32>,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", value_parser = whole::<u32>(0, u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) value: Option<u32>,
    /// Maximum number of entries
    #[arg(long, value_name = "N", required_unless_present = "like", value_parser = whole::<u32>(0, u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) max_entries: Option<u32>,
    /// Names as `map list` shows them
    #[arg(long, value_name = "FLAG,...", value_delimiter = ',', value_enum)]
    pub(crate) flags: Vec<Flag>,
    /// Use the type, sizes, flags and BTF of this map for all that is not given
    #[arg(long, value_name = "MAP")]
    pub(crate) like: Option<String>,
    /// For a map of maps: a map like those that it will hold
    #[arg(long, value_name = "MAP")]
    pub(crate) inner: Option<String>,
}

/// The flags that a map can be created with, by what the kernel calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Flag {
    NoPrealloc,
    NoCommonLru,
    Rdonly,
    Wronly,
    ZeroSeed,
    RdonlyProg,
    WronlyProg,
    Mmapable,
    PreserveElems,
    InnerMap,
}
