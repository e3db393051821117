//! Everything that changes the disk, in one place: so that files are private, and so that a test can
//! stop the disk at any step.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// Answers are private: the owner reads and writes, nobody else.
const FILE_MODE: u32 = 0o600;
/// The same for a directory that is made here; one that exists keeps its mode.
const DIRECTORY_MODE: u32 = 0o700;

/// Makes the directory and its parents.
pub(super) fn create_directory(dir: &Path) -> io::Result<()> {
    step()?;
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir)
}

/// Opens the lock file, made when it is missing.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

/// Opens a file that exists.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes a file that must not exist: no link that was put there is followed.
pub(super) fn create(path: &Path) -> io::Result<File> {
    step()?;
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Writes all bytes at an offset.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    seam::write(file, bytes, offset)?;
    file.write_all_at(bytes, offset)
}

/// Cuts a file to a length in bytes.
pub(super) fn cut(file: &File, length: u64) -> io::Result<()> {
    step()?;
    file.set_len(length)
}

/// Makes what was written to a file survive a power cut.
pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_data()
}

/// Makes created, renamed and removed names survive a power cut.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    step()?;
    File::open(dir)?.sync_all()
}

/// Gives a file another name, in the place of the file that has it.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    std::fs::rename(from, to)
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "it fails in tests")]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use seam::step;

/// Stops the disk of this thread after a number of steps, as a crash or a full disk does.
#[cfg(test)]
pub(super) mod seam {
    use std::cell::Cell;
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    thread_local! {
        static STEPS: Cell<Option<u32>> = const { Cell::new(None) };
        static ROOM: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// After this many more steps every step fails; `None` for no end.
    pub(in crate::cache::store) fn steps(left: Option<u32>) {
        STEPS.set(left);
    }

    /// After this many more bytes every write fails half-way; `None` for no end.
    pub(in crate::cache::store) fn room(left: Option<u64>) {
        ROOM.set(left);
    }

    pub(super) fn step() -> io::Result<()> {
        match STEPS.get() {
            Some(0) => Err(io::Error::other("the disk was stopped")),
            Some(left) => {
                STEPS.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        // A write is two steps: stopped at the second, half of the bytes are on the disk.
        step()?;
        if let Err(error) = step() {
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        let Some(left) = ROOM.get() else { return Ok(()) };
        if (bytes.len() as u64) > left {
            file.write_all_at(&bytes[..left as usize], offset)?;
            ROOM.set(Some(0));
            return Err(io::ErrorKind::StorageFull.into());
        }
        ROOM.set(Some(left - bytes.len() as u64));
        Ok(())
    }
}
