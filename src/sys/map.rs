//! The system calls on maps. The kernel trusts the sizes: a buffer for a key or
//! a value must be as long as the map says, which is why `crate::map` makes all
//! of them.

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use libbpf_rs::libbpf_sys;

use super::{check, descriptor};

/// What one batch came back with.
#[derive(Debug)]
pub struct Batch {
    /// Entries that were copied, also when `result` is an error.
    pub count: u32,
    /// `ENOENT` is the end of the map.
    pub result: io::Result<()>,
}

/// `BPF_MAP_LOOKUP_BATCH`. `token` names where to go on (`None` at first) and
/// `next` receives where to go on after this batch; both are at least 4 bytes
/// and at least a key long, `keys` and `values` hold `count` entries.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    token: Option<&mut [u8]>,
    next: &mut [u8],
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> Batch {
    let mut copied = count;
    let token = token.map_or(ptr::null_mut(), <[u8]>::as_mut_ptr);
    // SAFETY: the kernel reads and writes at most what the documentation above
    // promises the buffers to hold; they live across the call.
    let ret = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_raw_fd(),
            token.cast(),
            next.as_mut_ptr().cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &mut copied,
            ptr::null(),
        )
    };
    let result = check(ret);
    // EFAULT leaves the count as it was.
    let faulted = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EFAULT));
    Batch {
        count: if faulted { 0 } else { copied.min(count) },
        result,
    }
}

/// `BPF_MAP_GET_NEXT_KEY`: the key after `key`, or the first. `ENOENT` at the
/// end. Both are as long as a key.
pub fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel reads one key and writes one key.
    check(unsafe {
        libbpf_sys::bpf_map_get_next_key(map.as_raw_fd(), pointer(key), next.as_mut_ptr().cast())
    })
}

/// `BPF_MAP_LOOKUP_ELEM`: copies the value of a key; of a per-CPU map, one for
/// each possible CPU, each rounded up to 8 bytes. Queues and stacks have no
/// keys: there it is the value whose turn it is.
pub fn lookup(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    value: &mut [u8],
    flags: u64,
) -> io::Result<()> {
    // SAFETY: the kernel reads one key and writes one value.
    check(unsafe {
        libbpf_sys::bpf_map_lookup_elem_flags(
            map.as_raw_fd(),
            pointer(key),
            value.as_mut_ptr().cast(),
            flags,
        )
    })
}

/// `BPF_MAP_UPDATE_ELEM`: overwrites a value by copy; without a key, pushes.
pub fn update(map: BorrowedFd<'_>, key: Option<&[u8]>, value: &[u8], flags: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one key and one value.
    check(unsafe {
        libbpf_sys::bpf_map_update_elem(map.as_raw_fd(), pointer(key), value.as_ptr().cast(), flags)
    })
}

/// `BPF_MAP_DELETE_ELEM`
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads one key.
    check(unsafe { libbpf_sys::bpf_map_delete_elem(map.as_raw_fd(), key.as_ptr().cast()) })
}

/// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` of a queue or a stack.
pub fn pop(map: BorrowedFd<'_>, value: &mut [u8]) -> io::Result<()> {
    // SAFETY: there is no key, and the kernel writes one value.
    check(unsafe {
        libbpf_sys::bpf_map_lookup_and_delete_elem(
            map.as_raw_fd(),
            ptr::null(),
            value.as_mut_ptr().cast(),
        )
    })
}

/// `BPF_MAP_FREEZE`: from now on user space only reads.
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor.
    check(unsafe { libbpf_sys::bpf_map_freeze(map.as_raw_fd()) })
}

/// `BPF_OBJ_PIN`
pub fn pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is a C string that lives across the call.
    check(unsafe { libbpf_sys::bpf_obj_pin(map.as_raw_fd(), path.as_ptr()) })
}

/// The id after this one, of all maps that there are; `None` after the last.
pub fn next_id(id: u32) -> io::Result<Option<u32>> {
    let mut next = 0;
    // SAFETY: the kernel writes one integer.
    match check(unsafe { libbpf_sys::bpf_map_get_next_id(id, &raw mut next) }) {
        Ok(()) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a map by its id, to read it alone or to write to it as well.
pub fn open_id(id: u32, read_only: bool) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_get_fd_by_id_opts {
        sz: size_of::<libbpf_sys::bpf_get_fd_by_id_opts>() as libbpf_sys::size_t,
        open_flags: read_only_flag(read_only),
        ..Default::default()
    };
    // SAFETY: libbpf reads `sz` bytes of the options.
    descriptor(unsafe { libbpf_sys::bpf_map_get_fd_by_id_opts(id, &raw const opts) })
}

/// Opens what is pinned at a path of bpffs, which need not be a map.
pub fn open_pin(path: &Path, read_only: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let opts = libbpf_sys::bpf_obj_get_opts {
        sz: size_of::<libbpf_sys::bpf_obj_get_opts>() as libbpf_sys::size_t,
        file_flags: read_only_flag(read_only),
        ..Default::default()
    };
    // SAFETY: libbpf reads `sz` bytes of the options, and a C string.
    descriptor(unsafe { libbpf_sys::bpf_obj_get_opts(path.as_ptr(), &raw const opts) })
}

fn read_only_flag(read_only: bool) -> u32 {
    if read_only {
        libbpf_sys::BPF_F_RDONLY
    } else {
        0
    }
}

/// What `BPF_MAP_CREATE` is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewMap {
    /// A number of `enum bpf_map_type`.
    pub type_number: u32,
    /// At most 15 characters of letters, digits, `_` and `.`.
    pub name: String,
    /// In bytes.
    pub key_size: u32,
    /// In bytes.
    pub value_size: u32,
    /// How many entries fit.
    pub max_entries: u32,
    /// `BPF_F_...`
    pub flags: u32,
}

/// `BPF_MAP_CREATE`. With the descriptor of BTF, and the ids of the key's and
/// the value's type in it; with a map like those that a map of maps holds.
pub fn create(
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

/// The descriptor of BTF that the kernel holds under this id.
pub fn open_btf(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    descriptor(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(id) })
}

/// `hash` for 1; `None` for a type that is younger than libbpf.
pub fn type_name(number: u32) -> Option<&'static str> {
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
