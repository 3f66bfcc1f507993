//! Files appear whole or not at all.

use crate::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, process};

/// Runs `write` on a temporary file beside `path`, syncs it and renames it to `path`. Whatever fails,
/// a file that was at `path` before is still there, whole, and no other is left behind. Who may read it stays. A
/// link stays, and what it leads to is replaced; what is no file, like a pipe or a device, is refused.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = |source| Error::file(path, source);
    // A link may lead to what is not there yet.
    let leads = |_| fs::read_link(path).map(|to| folder(path).join(to));
    let there = fs::canonicalize(path).or_else(leads);
    let path = there.as_deref().unwrap_or(path);
    let before = fs::metadata(path).ok();
    match &before {
        Some(before) if before.is_dir() => {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Some(before) if !before.is_file() => {
            let kind = io::ErrorKind::AlreadyExists;
            return Err(failed(io::Error::new(kind, "is not a file")));
        }
        _ => (),
    }
    let (temporary, created) = temporary(path)?;
    // A library may replace the file by one that others cannot read.
    let permissions = match before {
        Some(before) => before.permissions(),
        None => created.metadata().map_err(failed)?.permissions(),
    };
    drop(created);
    let result = write(&temporary).and_then(|()| {
        // Windows syncs only what is open to be written.
        let sync = File::options().write(true).open(&temporary);
        sync.and_then(|file| file.sync_all())
            .and_then(|()| fs::set_permissions(&temporary, permissions))
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(failed)
    });
    if result.is_err() {
        // The error to report is the first one.
        drop(fs::remove_file(&temporary));
    }
    if result.is_ok() {
        // The file is there: a folder that cannot be synced, as one that may not be read, is no failure.
        let _ = sync_folder(path);
    }
    result
}

/// So that a file's name is there after a power cut, where the system has folders synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder(path))?.sync_all()?;
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new file in the same folder, and so in the same file system.
fn temporary(path: &Path) -> Result<(PathBuf, File)> {
    if path.file_name().is_none() {
        return Err(Error::value(format!("{}: no file name", path.display())));
    }
    // Not of the file's own name, which may be as long as names can be.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let (process, number) = (process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = folder(path).join(format!(".mirl-{process}-{number}.tmp"));
        // A process of another container may have this one's number, and the same folder.
        match File::options().write(true).create_new(true).open(&name) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(Error::file(path, error)),
        }
    }
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

    #[test]
    fn threads_that_write_one_file_do_not_meet() {
        let folder = std::env::temp_dir().join(format!("mirl-meet-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = &folder.join("file");
        std::thread::scope(|scope| {
            for text in ["one", "another"] {
                scope.spawn(move || {
                    for _ in 0..20 {
                        let put = |path: &Path| {
                            fs::write(path, text).map_err(|source| Error::file(path, source))
                        };
                        replace(path, put).unwrap();
                    }
                });
            }
        });
        assert!(["one", "another"].contains(&&*fs::read_to_string(path).unwrap()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_what_is_no_file_is_refused() {
        use std::os::unix::{fs::symlink, net::UnixListener};
        let folder = std::env::temp_dir().join(format!("mirl-links-{}", std::process::id()));
        fs::create_dir_all(folder.join("elsewhere")).unwrap();
        let [file, link, socket] = ["elsewhere/file", "link", "socket"].map(|n| folder.join(n));
        fs::write(&file, "before").unwrap();
        symlink(&file, &link).unwrap();
        let write = |path: &Path| fs::write(path, "after").map_err(|e| Error::file(path, e));
        replace(&link, write).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        // Nor is a link that leads nowhere yet replaced.
        fs::remove_file(&file).unwrap();
        replace(&link, write).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        let listener = UnixListener::bind(&socket).unwrap();
        for (refused, why) in [(&socket, "not a file"), (&folder, "is a directory")] {
            let error = replace(refused, write).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(!fs::metadata(&socket).unwrap().is_file());
        drop(listener);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_another_process_writes_is_left_alone() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = std::env::temp_dir().join(format!("mirl-others-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [path, theirs] = ["file", "theirs"].map(|name| folder.join(name));
        fs::write(&theirs, "theirs").unwrap();
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // The names that come next, whatever else this process writes.
        for number in 0..2000 {
            let name = format!(".mirl-{}-{number}.tmp", std::process::id());
            symlink(&theirs, folder.join(name)).unwrap();
        }
        let write = |path: &Path| fs::write(path, "after").map_err(|e| Error::file(path, e));
        replace(&path, write).unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
