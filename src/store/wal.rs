//! Whether the write-ahead log was read to its end.
//!
//! SQLite takes the log up to the first frame whose checksum is wrong for the whole of it: a crash leaves such a
//! tail. A flipped bit further in front looks the same, and what was acknowledged behind it would be gone without
//! a word. The file format is <https://sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// How many bytes of the log are in use, if there are whole commits behind them that cannot be read any more.
///
/// # Errors
/// SQLite cannot say how much it read.
pub(super) fn cut_short_at(connection: &Connection, database: &Path) -> rusqlite::Result<Option<u64>> {
    let frames: i64 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    Ok(unread_commits(&database.with_extension("db-wal"), u64::try_from(frames).unwrap_or(0)))
}

fn unread_commits(path: &Path, frames_read: u64) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).ok()?;
    let mut frame = [0; FRAME_HEADER_BYTES];
    if is_sound(&header) {
        frame[8..16].copy_from_slice(&header[16..24]);
    } else {
        // Then nothing was read; the first frame tells what the header should.
        file.read_exact(&mut frame).ok()?;
    }
    let salts: [u8; 8] = frame[8..16].try_into().ok()?;
    let page_bytes = u64::from(number(&header, 8));
    let frame_bytes = FRAME_HEADER_BYTES as u64 + page_bytes.clamp(512, 65536);
    let end = HEADER_BYTES as u64 + frames_read * frame_bytes;
    let mut at = end;
    while file.read_exact_at(&mut frame, at).is_ok() {
        // The last frame of a commit has the size of the database behind it.
        if frame[8..16] == salts && number(&frame, 4) != 0 {
            return Some(end);
        }
        at += frame_bytes;
    }
    None
}

/// Whether the log's header matches its checksum.
fn is_sound(header: &[u8; HEADER_BYTES]) -> bool {
    // The checksum reads numbers in the byte order that the magic number tells.
    let swapped = number(header, 0) & 1 == 0;
    let word = |at| if swapped { number(header, at).swap_bytes() } else { number(header, at) };
    let (mut first, mut second) = (0u32, 0u32);
    for at in (0..24).step_by(8) {
        first = first.wrapping_add(word(at)).wrapping_add(second);
        second = second.wrapping_add(word(at + 4)).wrapping_add(first);
    }
    (first, second) == (number(header, 24), number(header, 28))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
