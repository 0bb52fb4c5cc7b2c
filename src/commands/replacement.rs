//! Files that are replaced as a whole: what was there stays until all of the new
//! content is written.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;
use tempfile::Builder;

/// The new content of a file. It has no name until it is put in place, so nothing
/// is left however the process ends.
pub(super) struct Replacement {
    file: File,
    path: PathBuf,
}

impl Replacement {
    /// For the file at this path, or the one that a link there leads to.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            file: tempfile::tempfile_in(folder_of(&path))?,
            path,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Puts it beside the file instead, under the same name and a suffix.
    pub(super) fn set_aside(&mut self, suffix: &str) -> &Path {
        self.path.as_mut_os_string().push(suffix);
        &self.path
    }

    /// Makes what was written the content of the file. Without other permissions it
    /// keeps those that it has.
    pub(super) fn put_in_place(&self, permissions: Option<Permissions>) -> io::Result<()> {
        let mut file = &self.file;
        file.sync_all()?;
        let before = || Some(fs::metadata(&self.path).ok()?.permissions());
        let permissions = permissions.or_else(before);
        if let Some(permissions) = &permissions {
            file.set_permissions(permissions.clone())?;
        }
        // It is in place already.
        if file.metadata()?.nlink() > 0 {
            return Ok(());
        }
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |name: &Path| {
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            Ok(linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, name, follow)?)
        };
        let (mut builder, folder) = (Builder::new(), folder_of(&self.path));
        builder.prefix(".ktally-");
        if let Ok(linked) = builder.make_in(folder, link) {
            linked.persist(&self.path)?;
            return Ok(());
        }
        // Some filesystems give no name to a file without one.
        builder.permissions(permissions.unwrap_or(Permissions::from_mode(0o666)));
        let mut copy = builder.tempfile_in(folder)?;
        file.rewind()?;
        io::copy(&mut file, &mut copy)?;
        copy.as_file().sync_all()?;
        copy.persist(&self.path)?;
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> = names
            .map(|it| it.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_content_stays_until_the_new_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let new = Replacement::new(&path).unwrap();
        new.file().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
        new.put_in_place(Some(Permissions::from_mode(0o640)))
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // What is written from now on is part of the file.
        new.file().write_all(b"er").unwrap();
        new.put_in_place(None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn what_is_set_aside_replaces_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut part = Replacement::new(&path).unwrap();
        part.file().write_all(b"part").unwrap();
        let aside = part.set_aside(".incomplete").to_owned();
        part.put_in_place(None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read(aside).unwrap(), b"part");
        assert_eq!(names(folder.path()), ["file", "file.incomplete"]);
    }

    /// As where the filesystem has no files without a name.
    #[test]
    fn what_cannot_be_named_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let unlinked = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        let new = Replacement {
            file: unlinked.into_file(),
            path: path.clone(),
        };
        new.file().write_all(b"new").unwrap();
        new.put_in_place(None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }
}
