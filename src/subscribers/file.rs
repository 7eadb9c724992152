//! A file of JSON Lines: a batch is one write and one fsync before the position moves on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Delivery, Target};
use crate::config::SubscriberTarget;
use crate::event::Outcome;
use crate::flow::OutboxEntry;

/// Permissions of a file we create: contact ids are personal data.
const MODE: u32 = 0o640;
/// The longest end of a file that is looked through for a torn line; no line of ours is near as long.
const TAIL_MAX_BYTES: u64 = 64 * 1024;

pub(super) struct FileTarget {
    path: PathBuf,
    file: Option<File>,
}

impl FileTarget {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    fn append(&mut self, entries: &[OutboxEntry]) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, &Outcome::of(&entry.event, entry.delivered_ms))?;
            lines.push(b'\n');
        }
        // One that was deleted under us would take what is written with it.
        let deleted = |file: &File| file.metadata().is_ok_and(|meta| meta.nlink() == 0 && meta.is_file());
        let mut file = match self.file.take().filter(|file| !deleted(file)) {
            Some(file) => file,
            None => open(&self.path)?,
        };
        let before = file.metadata()?;
        let written = file.write_all(&lines).and_then(|()| sync(&file, before.is_file()));
        match written {
            // Only now: after a failure the file is opened, and so looked through, again.
            Ok(()) => self.file = Some(file),
            Err(_) if before.is_file() => file.set_len(before.len())?,
            Err(_) => {}
        }
        written
    }

    fn words(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}

impl Target for FileTarget {
    fn deliver(&mut self, entries: &[OutboxEntry]) -> Delivery {
        match self.append(entries) {
            Ok(()) => Delivery::Accepted(entries.len()),
            Err(error) => Delivery::Again { why: self.words(&error), after: None },
        }
    }

    fn renew(&mut self, _fresh: &SubscriberTarget) -> Result<(), String> {
        self.file = None;
        self.prepare()
    }

    fn prepare(&mut self) -> Result<(), String> {
        let opened = open(&self.path).map_err(|error| self.words(&error))?;
        self.file = Some(opened);
        Ok(())
    }
}

/// A pipe or a terminal has nothing to sync.
fn sync(file: &File, is_file: bool) -> io::Result<()> {
    if is_file { file.sync_data() } else { Ok(()) }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = match options.append(true).create(false).mode(MODE).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create(true).open(path)?;
            // A file is there after a power cut only if its directory was synced.
            if let Some(parent) = path.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                File::open(parent)?.sync_all()?;
            }
            file
        }
        Err(error) => return Err(error),
    };
    if file.metadata()?.is_file() {
        mend_tail(path, &file)?;
    }
    Ok(file)
}

/// A crash can have cut the last line: one of ours goes, since it will be written again; any other is ended, so that
/// lines stay lines.
fn mend_tail(path: &Path, mut appender: &File) -> io::Result<()> {
    let length = appender.metadata()?.len();
    let tail_length = length.min(TAIL_MAX_BYTES);
    let mut tail = Vec::new();
    let mut reader = File::open(path)?;
    reader.seek(SeekFrom::Start(length - tail_length))?;
    reader.take(tail_length).read_to_end(&mut tail)?;
    if tail.last().is_none_or(|last| *last == b'\n') {
        return Ok(());
    }
    let line_start = tail.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let line_start = line_start.or_else(|| (tail_length == length).then_some(0));
    match line_start {
        Some(start) if is_ours(&tail[start..]) => {
            appender.set_len(length - tail_length + start as u64)?;
            appender.sync_data()
        }
        _ => appender.write_all(b"\n"),
    }
}

/// Whether a cut line is the beginning of one of ours.
fn is_ours(line: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"id\":\"";
    let length = line.len().min(BEGINNING.len());
    line[..length] == BEGINNING[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_of_ours_goes_and_any_other_is_ended() {
        let path = std::env::temp_dir().join(format!("dispod-torn-{}", std::process::id()));
        let long = "x".repeat(100_000);
        let cases = [
            ("", ""),
            ("{\"id\":\"1\"}\n", "{\"id\":\"1\"}\n"),
            ("{\"id\":\"1\"}\n{", "{\"id\":\"1\"}\n"),
            ("{\"id\":\"1\"}\n{\"id\":\"2\",\"conta", "{\"id\":\"1\"}\n"),
            ("{\"id\":\"2\",\"conta", ""),
            ("a note\nby hand", "a note\nby hand\n"),
            (&long, &format!("{long}\n")),
        ];
        for (before, after) in cases {
            std::fs::write(&path, before).unwrap();
            drop(open(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:.40}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
