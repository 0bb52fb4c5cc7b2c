//! Folders that other users cannot change.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whether only root and this user can change what is at this path: it and all folders
/// above it are theirs, and no others may write there.
pub(crate) fn is_ours(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else {
        return false;
    };
    let own = nix::unistd::geteuid().as_raw();
    let is_safe = |at: &Path, it: &Metadata| {
        // Other users can make files in a sticky folder, but cannot rename ours.
        let is_sticky = at != path && it.mode() & 0o1000 != 0;
        [0, own].contains(&it.uid()) && (it.mode() & 0o022 == 0 || is_sticky)
    };
    let mut ancestors = path.ancestors();
    ancestors.all(|at| fs::metadata(at).is_ok_and(|it| is_safe(at, &it)))
}

/// Whether every user may write in this folder.
pub(super) fn is_open_to_all(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|it| it.mode() & 0o002 != 0)
}

/// A folder of ktally's for what takes time to make; `None` where there is no safe one.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let of_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty());
    let base = base.map(PathBuf::from).or_else(of_home)?;
    let folder = base.is_absolute().then(|| base.join("ktally"))?;
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder);
    (made.is_ok() && is_ours(&folder)).then_some(folder)
}

/// The build id of the running kernel, in hex.
pub(crate) fn kernel_build_id() -> io::Result<String> {
    const BUILD_ID: u32 = 3;
    let mut notes = Vec::new();
    File::open("/sys/kernel/notes")?.read_to_end(&mut notes)?;
    let mut rest = &notes[..];
    while let Some((head, body)) = rest.split_first_chunk::<12>() {
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let padded = |size: u32| (size as usize).next_multiple_of(4);
        let (name, id) = (padded(word(0)), word(4) as usize);
        if word(8) == BUILD_ID && body.starts_with(b"GNU\0") && body.len() >= name + id {
            let id = &body[name..name + id];
            return Ok(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        rest = body.get(name + padded(word(4))..).unwrap_or_default();
    }
    Err(io::Error::other("/sys/kernel/notes has no build id"))
}

/// The file that a command's name stands for, in PATH.
pub(super) fn in_path(name: &OsStr) -> Option<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.find(|it| it.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folders_that_others_can_write_to_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_ours(folder.path()));
        assert!(!is_ours(Path::new("/tmp")) && !is_ours(Path::new("/no/such")));
        let set = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
        set(0o777).unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).unwrap();
        assert!(!is_ours(folder.path()) && !is_ours(&inside));
        set(0o755).unwrap();
        assert!(is_ours(&inside));
    }

    #[test]
    fn the_kernel_has_a_build_id() {
        let id = kernel_build_id().unwrap();
        assert!(
            id.len() >= 16 && id.bytes().all(|it| it.is_ascii_hexdigit()),
            "{id}"
        );
    }
}
