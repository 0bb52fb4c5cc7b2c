//! System calls that no library wraps well: the unsafe code of the program, as
//! safe functions. Errors are `io::Error`, with the kernel's own errno.

use std::ffi::{c_char, c_void};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libbpf_rs::{AsRawLibbpf, Btf, libbpf_sys};

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
    let key = key.map_or(ptr::null(), <[u8]>::as_ptr);
    // SAFETY: the kernel reads one key and writes one key.
    check(unsafe {
        libbpf_sys::bpf_map_get_next_key(map.as_raw_fd(), key.cast(), next.as_mut_ptr().cast())
    })
}

/// `BPF_MAP_LOOKUP_ELEM`: copies the value of a key; of a per-CPU map, one for
/// each possible CPU, each rounded up to 8 bytes.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel reads one key and writes one value.
    check(unsafe {
        libbpf_sys::bpf_map_lookup_elem(
            map.as_raw_fd(),
            key.as_ptr().cast(),
            value.as_mut_ptr().cast(),
        )
    })
}

/// How often the kernel skipped a program because one was already running;
/// `None` where it does not tell (before Linux 5.12).
pub fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: the kernel writes at most `size` bytes of plain integers, and
    // follows no pointer, as all of them are zero.
    check(unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            ptr::from_mut(&mut info).cast(),
            &mut size,
        )
    })?;
    let end = offset_of!(libbpf_sys::bpf_prog_info, recursion_misses) + size_of::<u64>();
    Ok((size as usize >= end).then_some(info.recursion_misses))
}

/// Waits until every BPF program that was running has come to its end: a
/// program runs with preemption or at least RCU readers held, and
/// `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period.
pub fn rcu_grace_period() -> io::Result<()> {
    const GLOBAL: libc::c_int = libc::MEMBARRIER_CMD_GLOBAL;
    // SAFETY: membarrier takes three integers and touches no memory.
    let ret = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    match ret {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A software event of `PERF_TYPE_SOFTWARE` on one CPU, `hz` times a second.
pub fn software_event(config: u64, hz: u64, cpu: i32) -> io::Result<OwnedFd> {
    let mut attr = libbpf_sys::perf_event_attr {
        type_: libbpf_sys::PERF_TYPE_SOFTWARE,
        size: size_of::<libbpf_sys::perf_event_attr>() as u32,
        config,
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_freq = hz;
    attr.set_freq(1);
    // SAFETY: the kernel reads `size` bytes of the attribute.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            ptr::from_ref(&attr),
            -1,
            cpu,
            -1,
            libbpf_sys::PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Every type of some BTF, as C declares it.
pub fn btf_as_c(btf: &Btf<'_>) -> io::Result<String> {
    unsafe extern "C" fn append(out: *mut c_void, format: *const c_char, args: *mut c_void) {
        // SAFETY: libbpf hands back the context that it was given below, which
        // nothing else uses meanwhile.
        let out = unsafe { &mut *out.cast::<Vec<u8>>() };
        // SAFETY: libbpf hands over a format and the arguments that fit it.
        let text = unsafe { vsprintf::vsprintf_raw(format, args) };
        out.extend(text.unwrap_or_default());
    }
    let append: unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void) = append;
    // SAFETY: bindgen names the type of a va_list differently on each
    // architecture, but all of those that ktally is built for pass a pointer.
    let append: libbpf_sys::btf_dump_printf_fn_t = unsafe { std::mem::transmute(append) };
    let mut out: Vec<u8> = Vec::new();
    let context = ptr::from_mut(&mut out).cast();
    // SAFETY: both pointers are valid until the dump is freed, below.
    let dump = unsafe {
        libbpf_sys::btf_dump__new(
            btf.as_libbpf_object().as_ptr(),
            append,
            context,
            ptr::null(),
        )
    };
    if dump.is_null() {
        return Err(io::Error::last_os_error());
    }
    let result = (1..btf.len() as u32)
        // SAFETY: the dump is valid, and unknown ids are refused.
        .try_for_each(|id| check(unsafe { libbpf_sys::btf_dump__dump_type(dump, id) }));
    // SAFETY: nobody uses it any more.
    unsafe { libbpf_sys::btf_dump__free(dump) };
    result.map(|()| String::from_utf8_lossy(&out).into_owned())
}

/// libbpf returns `-errno`, or -1 with errno set; both end up in errno.
fn check(ret: i32) -> io::Result<()> {
    match ret {
        0.. => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
