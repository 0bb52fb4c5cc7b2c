//! Files that are replaced as a whole: what was there stays until all of the new
//! content is written.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;
use tempfile::Builder;

/// The new content of a file. It has no name until it is put in place, so nothing
/// is left however the process ends.
pub(super) struct Replacement {
    file: File,
    path: PathBuf,
    /// The number of files to keep: this one, and former ones as `FILE.1` and so on.
    /// Times of modification tell them apart.
    keep: Option<usize>,
}

impl Replacement {
    /// For the file at this path, or the one that a link there leads to.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            file: tempfile::tempfile_in(folder_of(&path))?,
            path,
            keep: None,
        })
    }

    pub(super) fn keeping(self, keep: Option<usize>) -> Self {
        Self { keep, ..self }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether a file is in place that was last modified at this instant.
    pub(super) fn is_in_place(&self, modified: SystemTime) -> bool {
        let found = fs::metadata(&self.path).and_then(|it| it.modified());
        found.is_ok_and(|found| found == modified)
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
        let metadata = file.metadata()?;
        let modified = metadata.modified()?;
        // It is in place already.
        if metadata.nlink() > 0 || self.keep.is_some() && self.is_in_place(modified) {
            return Ok(());
        }
        self.keep.map_or(Ok(()), |keep| shift(&self.path, keep))?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |name: &Path| -> io::Result<()> {
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            Ok(linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, name, follow)?)
        };
        // The name is free.
        if link(&self.path).is_ok() {
            return Ok(());
        }
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
        copy.as_file().set_modified(modified)?;
        copy.as_file().sync_all()?;
        copy.persist(&self.path)?;
        Ok(())
    }
}

/// Gives the file and its predecessors the next numbers, the last one first, and removes
/// what is beyond `keep` files with the new one. Each rename takes a free name, or the
/// oldest file's, so no other file is lost where it ends halfway.
fn shift(path: &Path, keep: usize) -> io::Result<()> {
    let numbered = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let is_there = |number: &usize| numbered(*number).symlink_metadata().is_ok();
    let free = (0..keep).take_while(is_there).count();
    for number in (1..=free.min(keep - 1)).rev() {
        fs::rename(numbered(number - 1), numbered(number))?;
    }
    let mut older = (keep..).take_while(is_there);
    older.try_for_each(|number| fs::remove_file(numbered(number)))
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

    #[test]
    fn former_files_are_numbered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let put = |content: &str, keep| {
            let new = Replacement::new(&path).unwrap().keeping(Some(keep));
            new.file().write_all(content.as_bytes()).unwrap();
            // It is put in place once, however often that is asked.
            new.put_in_place(None).unwrap();
            new.put_in_place(None).unwrap();
            let names = names(folder.path()).into_iter();
            let file = |name| (fs::read_to_string(folder.path().join(&name)).unwrap(), name);
            let files = names
                .map(file)
                .map(|(content, name)| format!("{name} {content}"));
            files.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(put("a", 3), "file a");
        assert_eq!(put("b", 3), "file b, file.1 a");
        assert_eq!(put("c", 3), "file c, file.1 b, file.2 a");
        assert_eq!(put("d", 3), "file d, file.1 c, file.2 b");
        // What ended halfway left a name free.
        fs::rename(&path, folder.path().join("file.1")).unwrap();
        assert_eq!(put("e", 3), "file e, file.1 d, file.2 b");
        fs::remove_file(folder.path().join("file.1")).unwrap();
        assert_eq!(put("f", 3), "file f, file.1 e, file.2 b");
        assert_eq!(put("g", 9), "file g, file.1 f, file.2 e, file.3 b");
        assert_eq!(put("h", 2), "file h, file.1 g");
        assert_eq!(put("i", 1), "file i");
    }

    /// As where the filesystem has no files without a name.
    #[test]
    fn what_cannot_be_named_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let unlinked = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        let new = Replacement {
            file: unlinked.into_file(),
            path: path.clone(),
            keep: Some(2),
        };
        new.file().write_all(b"new").unwrap();
        new.file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        new.put_in_place(None).unwrap();
        new.put_in_place(None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(folder.path().join("file.1")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file", "file.1"]);
    }
}
