//! Files that are there completely or not at all.
//!
//! Bytes go to a temporary name in the directory of the target, are synced to the disk, and only then renamed over the target;
//! an interrupted or failed write leaves what stood there before. Directories, devices and pipes are refused, since renaming
//! would replace them.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::error::ExportError;

/// Writes `bytes` to the file `path`, which is made or replaced.
///
/// A symbolic link is followed, and the file it points to replaced. New files have the permissions that the process's umask
/// gives, replaced ones keep theirs.
///
/// # Errors
///
/// [`ExportError::NotAFile`] if something other than a regular file stands at `path`, [`ExportError::Write`] for what the
/// operating system refuses.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let error = |source| ExportError::Write { path: path.to_owned(), source };
    let (target, existing) = match fs::metadata(path) {
        Ok(metadata) => {
            require_file(path, &metadata)?;
            (fs::canonicalize(path).map_err(error)?, Some(metadata.permissions()))
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(source) => return Err(error(source)),
    };
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };

    let mut builder = tempfile::Builder::new();
    builder.prefix(".qat-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(&directory).map_err(error)?;
    temporary.write_all(bytes).map_err(error)?;
    if let Some(permissions) = existing {
        temporary.as_file().set_permissions(permissions).map_err(error)?;
    }
    temporary.as_file().sync_all().map_err(error)?;
    temporary.persist(&target).map_err(|failure| error(failure.error))?;
    // The rename itself lasts through a power cut only once the directory is synced; not every file system can do that, and
    // the file is complete either way.
    if let Ok(directory) = File::open(&directory) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// The bytes of the regular file `path`.
///
/// # Errors
///
/// [`ExportError::NotAFile`] for directories, devices and pipes, which may have no end; [`ExportError::Read`] for what the
/// operating system refuses.
pub fn read_file(path: &Path) -> Result<Vec<u8>, ExportError> {
    let error = |source| ExportError::Read { path: path.to_owned(), source };
    require_file(path, &fs::metadata(path).map_err(error)?)?;
    fs::read(path).map_err(error)
}

fn require_file(path: &Path, metadata: &Metadata) -> Result<(), ExportError> {
    if metadata.is_file() {
        return Ok(());
    }
    let found = if metadata.is_dir() { "a directory" } else { "a device or pipe" };
    Err(ExportError::NotAFile { path: path.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in `directory`, sorted.
    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.bin");
        write_atomically(&path, b"first, longer").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(read_file(&path).unwrap(), b"second");
        assert_eq!(names(directory.path()), ["a.bin"]);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent").join("a.bin");
        let error = write_atomically(&path, b"x").unwrap_err();
        assert!(matches!(error, ExportError::Write { .. }), "{error}");
        assert!(error.to_string().contains("absent"), "{error}");
        assert!(matches!(read_file(&path), Err(ExportError::Read { .. })));
    }

    #[test]
    fn a_directory_is_neither_written_nor_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(write_atomically(directory.path(), b"x"), Err(ExportError::NotAFile { found: "a directory", .. })));
        assert!(matches!(read_file(directory.path()), Err(ExportError::NotAFile { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_not_replaced() {
        let null = Path::new("/dev/null");
        assert!(matches!(write_atomically(null, b"x"), Err(ExportError::NotAFile { found: "a device or pipe", .. })));
        assert!(!fs::metadata(null).unwrap().is_file());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_file_keeps_its_permissions() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, b"old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
