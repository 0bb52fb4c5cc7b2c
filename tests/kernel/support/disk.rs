//! Block devices of a test's own, in memory.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use super::require_root;
use crate::common::{Ended, command, end};

/// Buffers of direct I/O are aligned, as the device's blocks are.
#[repr(C, align(4096))]
pub struct Aligned<const SIZE: usize>(pub [u8; SIZE]);

/// A disk in memory, gone when dropped.
pub struct Disk {
    pub path: PathBuf,
    pub memory: File,
}

impl Disk {
    /// Of this size, with a cache to flush.
    pub fn new(size: u64) -> Self {
        require_root();
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a name that lives; the descriptor is fresh and ours.
        let memory = unsafe { File::from_raw_fd(libc::memfd_create(c"kt-disk".as_ptr(), flags)) };
        memory.set_len(size).unwrap();
        let file = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        let path = losetup(&["-f", "--show", &file]).done();
        let path = PathBuf::from(path.trim());
        // Where there is udev, it looks at new disks.
        let _ = Command::new("udevadm").arg("settle").status();
        let kind = fs::metadata(&path).unwrap().file_type();
        assert!(kind.is_block_device(), "{path:?}");
        Self { path, memory }
    }

    /// `loop7`.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub fn open(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        options.open(&self.path).unwrap()
    }

    /// A path for children.
    pub fn c_path(&self) -> CString {
        CString::new(self.path.to_str().unwrap()).unwrap()
    }

    /// Whether a label means this device: by its name, or by its number as the
    /// kernel has it, of 12 and 20 bits.
    pub fn is(&self, label: &str) -> bool {
        let dev = fs::metadata(&self.path).unwrap().rdev();
        let number = libc::major(dev) << 20 | libc::minor(dev);
        label == number.to_string() || label == self.name()
    }

    /// A file of its queue in /sys.
    pub fn sys(&self, file: &str) -> PathBuf {
        Path::new("/sys/block").join(self.name()).join(file)
    }

    /// From now on all writes to it fail.
    pub fn seal(&self) {
        let seal = FcntlArg::F_ADD_SEALS(SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE));
        fcntl(&self.memory, seal).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let ended = losetup(&["-d", self.path.to_str().unwrap()]);
        assert!(ended.code == 0 || std::thread::panicking(), "{ended:?}");
    }
}

fn losetup(arguments: &[&str]) -> Ended {
    end(command("losetup").args(arguments))
}
