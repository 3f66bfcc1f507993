//! Files appear whole or not at all.

use crate::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Runs `write` on a temporary file beside `path`, syncs it and renames it to `path`. Whatever fails,
/// a file that was at `path` before is still there, whole, and no other is left behind.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = temporary(path)?;
    let failed = |source| Error::file(path, source);
    // A library may replace the file by one that others cannot read: the usual permissions are kept.
    let created = File::create(&temporary).and_then(|file| file.metadata());
    let permissions = created.map_err(failed)?.permissions();
    let result = write(&temporary).and_then(|()| {
        let sync = |path: &Path| File::open(path)?.sync_all();
        fs::set_permissions(&temporary, permissions)
            .and_then(|()| sync(&temporary))
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| sync(folder(path)))
            .map_err(failed)
    });
    if result.is_err() {
        // The error to report is the first one.
        drop(fs::remove_file(&temporary));
    }
    result
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name in the same folder, and so in the same file system, that no other process takes.
fn temporary(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::value(format!("{}: no file name", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(folder(path).join(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = std::env::temp_dir().join(format!("mirl-atomic-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        let put = |path: &Path, text: &str| fs::write(path, text).map_err(|e| Error::file(path, e));
        replace(&path, |path| put(path, "first")).unwrap();
        let failed = replace(&path, |path| {
            put(path, "half")?;
            Err(Error::value("full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
