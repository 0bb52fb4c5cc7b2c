//! Changes BTF, by libbpf: adds types to it, and turns pointers to other types.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::slice;

use libbpf_rs::libbpf_sys;

/// Hands over the bytes of the running kernel's BTF.
pub(crate) fn with_kernel_btf<T>(take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    let file = File::open(PATH)?;
    let size = file.metadata()?.len() as usize;
    // SAFETY: a new mapping, which nothing else knows.
    let mapped = unsafe {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        libc::mmap(ptr::null_mut(), size, read, private, file.as_raw_fd(), 0)
    };
    // Since Linux 6.16.
    if mapped == libc::MAP_FAILED {
        return fs::read(PATH).map(|bytes| take(&bytes));
    }
    // SAFETY: it has that many bytes, which the kernel never changes.
    let taken = take(unsafe { slice::from_raw_parts(mapped.cast(), size) });
    // SAFETY: nothing borrows from it any more.
    unsafe { libc::munmap(mapped, size) };
    Ok(taken)
}

/// The number of a type.
pub(crate) type Id = i32;

/// BTF that can be changed.
pub(crate) struct Editor(NonNull<libbpf_sys::btf>);

impl Editor {
    /// Of raw BTF of this program's own objects.
    pub(crate) fn new(raw: &[u8]) -> io::Result<Self> {
        // SAFETY: libbpf copies that many bytes.
        let btf = unsafe { libbpf_sys::btf__new(raw.as_ptr().cast(), raw.len() as u32) };
        let btf = NonNull::new(btf).ok_or_else(io::Error::last_os_error)?;
        Ok(Self(btf))
    }

    /// The type of this name and kind, one of `BTF_KIND_*`.
    pub(crate) fn find(&self, name: &str, kind: u32) -> io::Result<Id> {
        let name = CString::new(name)?;
        // SAFETY: reads a C string.
        id(unsafe { libbpf_sys::btf__find_by_name_kind(self.0.as_ptr(), name.as_ptr(), kind) })
    }

    /// An integer of this size in bytes, with a sign or without.
    pub(crate) fn int(&mut self, name: &str, size: usize, signed: bool) -> io::Result<Id> {
        let name = CString::new(name)?;
        let encoding = i32::from(signed) * libbpf_sys::BTF_INT_SIGNED as i32;
        // SAFETY: reads a C string.
        id(unsafe {
            libbpf_sys::btf__add_int(
                self.0.as_ptr(),
                name.as_ptr(),
                size as libbpf_sys::size_t,
                encoding,
            )
        })
    }

    /// An array, whose elements are counted by any integer.
    pub(crate) fn array(&mut self, index: Id, element: Id, len: usize) -> io::Result<Id> {
        // SAFETY: takes integers.
        id(unsafe { libbpf_sys::btf__add_array(self.0.as_ptr(), index, element, len as u32) })
    }

    /// A struct, which the next calls of `member` belong to.
    pub(crate) fn structure(&mut self, name: &str, size: usize) -> io::Result<Id> {
        let name = CString::new(name)?;
        // SAFETY: reads a C string.
        id(unsafe { libbpf_sys::btf__add_struct(self.0.as_ptr(), name.as_ptr(), size as u32) })
    }

    /// A member of the last struct, at this byte.
    pub(crate) fn member(&mut self, name: &str, ty: Id, byte: usize) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: reads a C string.
        super::check(unsafe {
            libbpf_sys::btf__add_field(self.0.as_ptr(), name.as_ptr(), ty, 8 * byte as u32, 0)
        })
    }

    /// A declaration tag: of a type, a variable, a function, or one of its members.
    pub(crate) fn tag(&mut self, text: &str, of: Id, member: Option<usize>) -> io::Result<()> {
        let text = CString::new(text)?;
        let member = member.map_or(-1, |member| member as i32);
        // SAFETY: reads a C string.
        id(unsafe { libbpf_sys::btf__add_decl_tag(self.0.as_ptr(), text.as_ptr(), of, member) })
            .map(drop)
    }

    /// Turns every pointer to one type to another type.
    pub(crate) fn turn_pointers(&mut self, from: Id, to: Id) {
        // SAFETY: takes no memory.
        let count = unsafe { libbpf_sys::btf__type_cnt(self.0.as_ptr()) };
        for i in 1..count {
            // SAFETY: the number is one of its types; this owns the BTF, which was
            // copied for writing when a type was added, and nothing else reads it
            // meanwhile.
            unsafe {
                let ty = libbpf_sys::btf__type_by_id(self.0.as_ptr(), i).cast_mut();
                let kind = (*ty).info >> 24 & 0x1f;
                if kind == libbpf_sys::BTF_KIND_PTR && (*ty).__bindgen_anon_1.type_ == from as u32 {
                    (*ty).__bindgen_anon_1.type_ = to as u32;
                }
            }
        }
    }

    pub(crate) fn raw(&self) -> io::Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: libbpf returns that many bytes that it owns, or NULL.
        unsafe {
            let bytes = libbpf_sys::btf__raw_data(self.0.as_ptr(), &raw mut size);
            if bytes.is_null() {
                return Err(io::Error::last_os_error());
            }
            Ok(slice::from_raw_parts(bytes.cast::<u8>(), size as usize).to_vec())
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // SAFETY: nothing else has it.
        unsafe { libbpf_sys::btf__free(self.0.as_ptr()) }
    }
}

fn id(ret: i32) -> io::Result<Id> {
    super::check(ret).map(|()| ret)
}
