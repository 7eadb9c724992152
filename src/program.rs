//! The program's own pages in memory.

use rustix::mm::{Advice, madvise};

/// Unmaps the program's code, and that of the libraries it is linked to: what is still needed comes back from the
/// page cache at its next use, what only the start needed does not. To be called once the start is over: 9.6 MB
/// resident before, 5.6 MB after, of an idle daemon.
///
/// Does nothing where `/proc` is not mounted.
pub fn forget_start() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(code_of_a_file) {
        // SAFETY: the range is a private mapping of a file that can be executed and not written to (no relocation is
        // in it, and nothing of it was ever changed), so that the kernel reads the same bytes again when they are
        // used. Nothing is unmapped from it while we run: no library is ever unloaded.
        let _ = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
    }
}

/// Start and length of a mapping of executable bytes of a file, from a line of `/proc/self/maps` (proc(5)).
fn code_of_a_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let is_of_a_file = fields.nth(2)? != "0";
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let length = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    (permissions == "r-xp" && is_of_a_file).then_some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_comes_from_a_file_and_is_never_written_is_let_go() {
        let code = "55d0c8a00000-55d0c8e4c000 r-xp 0014f000 fe:00 2360 /usr/bin/dispod";
        assert_eq!(code_of_a_file(code), Some((0x55d0_c8a0_0000, 0x44_c000)));
        for other in [
            "55d0c8e4c000-55d0c8e65000 r--p 0059b000 fe:00 2360 /usr/bin/dispod",
            "55d0c8e65000-55d0c8e69000 rw-p 005b3000 fe:00 2360 /usr/bin/dispod",
            "55d0c8e65000-55d0c8e69000 rwxp 005b3000 fe:00 2360 /usr/bin/dispod",
            "7ffd3b5f0000-7ffd3b5f2000 r-xp 00000000 00:00 0 [vdso]",
            "",
        ] {
            assert_eq!(code_of_a_file(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        forget_start();
        assert_eq!("1,2,3".split(',').map(|n| n.parse::<u32>().unwrap()).sum::<u32>(), 6);
    }
}
