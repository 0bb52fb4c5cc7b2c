//! The system calls on maps.

use std::ffi::{CStr, CString, OsStr, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use libbpf_rs::{AsRawLibbpf, MapType, OpenMapMut, libbpf_sys, num_possible_cpus};

use super::{check, descriptor, found};

/// The elements of a map. The kernel does not know how long a buffer is, so each
/// call compares its buffers with the sizes that the kernel states for the map.
#[derive(Debug)]
pub struct Elements {
    fd: OwnedFd,
    info: libbpf_sys::bpf_map_info,
    value_count: usize,
    value_stride: usize,
}

/// The result of one batch.
#[derive(Debug)]
pub struct Batch {
    /// How many entries the kernel copied.
    pub(crate) count: usize,
    /// `ENOENT` is the end of the map.
    pub result: io::Result<()>,
}

impl Elements {
    /// The elements of the map of a descriptor.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut info = libbpf_sys::bpf_map_info::default();
        let mut size = size_of::<libbpf_sys::bpf_map_info>() as u32;
        // SAFETY: the kernel writes at most `size` bytes of plain integers.
        check(unsafe {
            libbpf_sys::bpf_map_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size)
        })?;
        let value_size = info.value_size as usize;
        let (mut value_count, mut value_stride) = (1, value_size);
        if is_per_cpu(info.type_) {
            value_count = num_possible_cpus().map_err(io::Error::other)?;
            value_stride = value_size.next_multiple_of(8);
        }
        Ok(Self {
            fd,
            info,
            value_count,
            value_stride,
        })
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn info(&self) -> &libbpf_sys::bpf_map_info {
        &self.info
    }

    /// How many values an element has: one, or one for each possible CPU.
    pub(crate) fn value_count(&self) -> usize {
        self.value_count
    }

    /// The distance between two values: per-CPU maps round it up to 8 bytes.
    pub(crate) fn value_stride(&self) -> usize {
        self.value_stride
    }

    pub(crate) fn is_per_cpu(&self) -> bool {
        is_per_cpu(self.info.type_)
    }

    fn key_size(&self) -> usize {
        self.info.key_size as usize
    }

    fn check_key(&self, key: Option<&[u8]>) -> io::Result<()> {
        key.map_or(Ok(()), |key| check_length("key", key, self.key_size()))
    }

    fn check_value(&self, value: &[u8]) -> io::Result<()> {
        check_length("value", value, self.value_count * self.value_stride)
    }

    /// `BPF_MAP_LOOKUP_BATCH`. It starts at `token` (`None` at first), and writes the
    /// token of the next batch to `next`. A token has the size of a key, and at least
    /// 4 bytes.
    pub fn lookup_batch(
        &self,
        token: Option<&mut [u8]>,
        next: &mut [u8],
        keys: &mut [u8],
        values: &mut [u8],
        count: u32,
    ) -> Batch {
        let mut found = count;
        let result = self.try_lookup_batch(token, next, keys, values, &mut found);
        // After other errors the count may be stale.
        let is_end = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
        let count = match &result {
            Err(error) if !is_end(error) => 0,
            _ => found.min(count) as usize,
        };
        Batch { count, result }
    }

    fn try_lookup_batch(
        &self,
        token: Option<&mut [u8]>,
        next: &mut [u8],
        keys: &mut [u8],
        values: &mut [u8],
        count: &mut u32,
    ) -> io::Result<()> {
        let token_size = self.key_size().max(size_of::<u32>());
        let entries = *count as usize;
        if let Some(token) = &token {
            check_length("token", token, token_size)?;
        }
        check_length("token", next, token_size)?;
        check_length("keys", keys, entries.saturating_mul(self.key_size()))?;
        let value_size = self.value_count * self.value_stride;
        check_length("values", values, entries.saturating_mul(value_size))?;
        let token = token.map_or(ptr::null_mut(), <[u8]>::as_mut_ptr);
        // SAFETY: the kernel reads and writes at most the lengths checked above.
        check(unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                self.fd.as_raw_fd(),
                token.cast(),
                next.as_mut_ptr().cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                count,
                ptr::null(),
            )
        })
    }

    /// `BPF_MAP_GET_NEXT_KEY`: the key after `key`, or the first; `ENOENT` at the end.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
        self.check_key(key)?;
        self.check_key(Some(next))?;
        // SAFETY: the kernel reads one key and writes one key.
        check(unsafe {
            libbpf_sys::bpf_map_get_next_key(
                self.fd.as_raw_fd(),
                pointer(key),
                next.as_mut_ptr().cast(),
            )
        })
    }

    /// `BPF_MAP_LOOKUP_ELEM`: copies the values of a key. Queues and stacks have no
    /// keys: it copies the next value.
    pub fn lookup(&self, key: Option<&[u8]>, value: &mut [u8]) -> io::Result<()> {
        self.check_key(key)?;
        self.check_value(value)?;
        // SAFETY: the kernel reads one key and writes one element's values.
        check(unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                pointer(key),
                value.as_mut_ptr().cast(),
            )
        })
    }

    /// `BPF_MAP_UPDATE_ELEM`: replaces the values of a key; without a key, it pushes.
    pub fn update(&self, key: Option<&[u8]>, value: &[u8], flags: u64) -> io::Result<()> {
        self.check_key(key)?;
        self.check_value(value)?;
        // SAFETY: the kernel reads one key and one element's values.
        check(unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                pointer(key),
                value.as_ptr().cast(),
                flags,
            )
        })
    }

    /// `BPF_MAP_DELETE_ELEM`
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check_key(Some(key))?;
        // SAFETY: the kernel reads one key.
        check(unsafe { libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast()) })
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` of a queue or a stack.
    pub fn pop(&self, value: &mut [u8]) -> io::Result<()> {
        self.check_value(value)?;
        // SAFETY: there is no key, and the kernel writes one element's values.
        check(unsafe {
            libbpf_sys::bpf_map_lookup_and_delete_elem(
                self.fd.as_raw_fd(),
                ptr::null(),
                value.as_mut_ptr().cast(),
            )
        })
    }
}

impl AsFd for Elements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_per_cpu(type_number: u32) -> bool {
    matches!(
        MapType::from(type_number),
        MapType::PercpuHash
            | MapType::PercpuArray
            | MapType::LruPercpuHash
            | MapType::PercpuCgroupStorage
    )
}

/// Checks that a buffer has at least `needed` bytes.
fn check_length(what: &str, buffer: &[u8], needed: usize) -> io::Result<()> {
    if buffer.len() >= needed {
        return Ok(());
    }
    let len = buffer.len();
    let error = format!("a buffer for the {what} has {len} bytes, not {needed}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// `BPF_MAP_FREEZE`: from now on user space can only read the map.
pub(crate) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor.
    check(unsafe { libbpf_sys::bpf_map_freeze(map.as_raw_fd()) })
}

/// `BPF_OBJ_PIN`
pub(crate) fn pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is a C string that lives across the call.
    check(unsafe { libbpf_sys::bpf_obj_pin(map.as_raw_fd(), path.as_ptr()) })
}

/// The id of the map after this id; `None` after the last.
pub fn next_id(id: u32) -> io::Result<Option<u32>> {
    let mut next = 0;
    // SAFETY: the kernel writes one integer.
    let found = found(check(unsafe {
        libbpf_sys::bpf_map_get_next_id(id, &raw mut next)
    }));
    Ok(found?.map(|()| next))
}

/// Opens a map by its id.
pub fn open_id(id: u32, access: Access) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_get_fd_by_id_opts {
        sz: size_of::<libbpf_sys::bpf_get_fd_by_id_opts>() as libbpf_sys::size_t,
        open_flags: access.flags(),
        ..Default::default()
    };
    // SAFETY: libbpf reads `sz` bytes of the options.
    descriptor(unsafe { libbpf_sys::bpf_map_get_fd_by_id_opts(id, &raw const opts) })
}

/// Opens the object that is pinned at a path, which need not be a map.
pub(crate) fn open_pin(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let opts = libbpf_sys::bpf_obj_get_opts {
        sz: size_of::<libbpf_sys::bpf_obj_get_opts>() as libbpf_sys::size_t,
        file_flags: access.flags(),
        ..Default::default()
    };
    // SAFETY: libbpf reads `sz` bytes of the options, and a C string.
    descriptor(unsafe { libbpf_sys::bpf_obj_get_opts(path.as_ptr(), &raw const opts) })
}

/// What a descriptor of a map allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write.
    Write,
}

impl Access {
    fn flags(self) -> u32 {
        match self {
            Self::Read => libbpf_sys::BPF_F_RDONLY,
            Self::Write => 0,
        }
    }
}

/// The arguments of `BPF_MAP_CREATE`.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewMap {
    pub(crate) type_number: u32,
    /// At most 15 characters of letters, digits, `_` and `.`.
    pub(crate) name: String,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// `BPF_MAP_CREATE`. `btf` is a descriptor of BTF, and the type ids of key and
/// value; `inner` is a map like those that a map of maps holds.
pub(crate) fn create(
    new: &NewMap,
    btf: Option<(BorrowedFd<'_>, u32, u32)>,
    inner: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let mut opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: new.flags,
        ..Default::default()
    };
    if let Some((fd, key, value)) = btf {
        opts.btf_fd = fd.as_raw_fd() as u32;
        (opts.btf_key_type_id, opts.btf_value_type_id) = (key, value);
    }
    opts.inner_map_fd = inner.map_or(0, |fd| fd.as_raw_fd() as u32);
    let name = CString::new(new.name.as_str())?;
    // SAFETY: libbpf reads `sz` bytes of the options, and a C string.
    descriptor(unsafe {
        libbpf_sys::bpf_map_create(
            new.type_number,
            name.as_ptr(),
            new.key_size,
            new.value_size,
            new.max_entries,
            &raw const opts,
        )
    })
}

/// Puts a map into a map of maps; the kernel waits until no running program can use
/// what was there before.
pub(super) fn update_map_of_maps() -> io::Result<()> {
    let array = |kind: MapType| NewMap {
        type_number: kind as u32,
        name: "ktally_wait".to_owned(),
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags: 0,
    };
    let inner = create(&array(MapType::Array), None, None)?;
    let outer = create(&array(MapType::ArrayOfMaps), None, Some(inner.as_fd()))?;
    let value = inner.as_raw_fd().to_ne_bytes();
    Elements::new(outer)?.update(Some(&[0; 4]), &value, 0)
}

pub(crate) fn open_btf(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    descriptor(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(id) })
}

/// `hash` for 1; `None` for a type that libbpf does not know yet.
pub(crate) fn type_name(number: u32) -> Option<&'static str> {
    // SAFETY: libbpf knows a name, a static C string, or returns NULL.
    let name = unsafe {
        let name = libbpf_sys::libbpf_bpf_map_type_str(number);
        (!name.is_null()).then(|| CStr::from_ptr(name))
    };
    name?.to_str().ok()
}

fn pointer(bytes: Option<&[u8]>) -> *const c_void {
    bytes.map_or(ptr::null(), <[u8]>::as_ptr).cast()
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

/// The path where libbpf would pin this map or reuse a pinned one, which it no
/// longer does after this call.
pub(crate) fn take_pin_path(map: &mut OpenMapMut<'_>) -> io::Result<Option<PathBuf>> {
    let map = map.as_libbpf_object().as_ptr();
    // SAFETY: the map is valid while it is borrowed. The path is a C string of
    // its own, which is copied before it is freed.
    unsafe {
        let path = libbpf_sys::bpf_map__pin_path(map);
        if path.is_null() {
            return Ok(None);
        }
        let path = OsStr::from_bytes(CStr::from_ptr(path).to_bytes()).into();
        check(libbpf_sys::bpf_map__set_pin_path(map, ptr::null()))?;
        Ok(Some(path))
    }
}
