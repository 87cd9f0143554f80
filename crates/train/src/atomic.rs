//! Files that are there completely or not at all.
//!
//! Write to a temporary name in the same folder, sync, rename, sync the folder: after a crash at any moment the old file or the new
//! one is there, never a part.

use crate::error::TrainError;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes `bytes` to `path`, replacing what is there.
///
/// # Errors
///
/// [`TrainError::Io`] with `action`; the file that was there before is then untouched.
pub(crate) fn write_file(action: &'static str, path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    replace(path, bytes).map_err(|source| TrainError::Io { action, path: path.into(), source })
}

/// Writes `bytes` to `path`, replacing what is there, which an error leaves untouched.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // A temporary file is private by default; the finished file gets the permissions that any new file gets.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(TEMPORARY).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync(folder)
}

/// Makes the names in `folder` survive a crash.
pub(crate) fn sync_folder(action: &'static str, folder: &Path) -> Result<(), TrainError> {
    sync(folder).map_err(|source| TrainError::Io { action, path: folder.into(), source })
}

/// Makes the names in `folder` survive a crash.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    // Only Unix can open a folder as a file; elsewhere a rename is as durable as the system makes it.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A folder being filled under a temporary name; removed unless it is [published](Self::publish).
pub(crate) struct NewFolder {
    action: &'static str,
    temporary: std::path::PathBuf,
    published: bool,
}

/// Beginning of the names of folders that were never published.
pub(crate) const TEMPORARY: &str = ".tmp-";

impl NewFolder {
    /// An empty folder in `parent`, to be called `name` in the end.
    pub(crate) fn begin(action: &'static str, parent: &Path, name: &str) -> Result<Self, TrainError> {
        let temporary = parent.join(format!("{TEMPORARY}{name}-{}", std::process::id()));
        fs::create_dir(&temporary).map_err(|source| TrainError::Io { action, path: temporary.clone(), source })?;
        Ok(Self { action, temporary, published: false })
    }

    /// Writes one synced file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let path = self.temporary.join(name);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|source| TrainError::Io { action: self.action, path, source })
    }

    /// Gives the folder its name, `path`, in the same parent.
    pub(crate) fn publish(mut self, path: &Path) -> Result<(), TrainError> {
        sync_folder(self.action, &self.temporary)?;
        fs::rename(&self.temporary, path).map_err(|source| TrainError::Io { action: self.action, path: path.into(), source })?;
        self.published = true;
        sync_folder(self.action, path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.published {
            // What is left is recognized by its name and removed when the run is continued.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let parent = tempfile::tempdir().unwrap();
        let folder = NewFolder::begin("test", parent.path(), "one").unwrap();
        folder.write("a", b"1").unwrap();
        assert!(folder.write("a", b"2").is_err(), "a file is written once");
        drop(folder);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);

        let folder = NewFolder::begin("test", parent.path(), "two").unwrap();
        folder.write("a", b"1").unwrap();
        folder.publish(&parent.path().join("two")).unwrap();
        assert_eq!(fs::read(parent.path().join("two/a")).unwrap(), b"1");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn replacing_a_file_leaves_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        write_file("test", &path, b"1").unwrap();
        write_file("test", &path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_a_storage_error() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let source = full.write_all(b"1").unwrap_err();
        let error = TrainError::Io { action: "write checkpoint", path: "x".into(), source };
        assert!(error.to_string().starts_with("write checkpoint, x: expected success, found No space left"), "{error}");
        assert!(error.hint().unwrap().contains("--resume"));
    }
}
