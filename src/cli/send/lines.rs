//! Lines of a file or of standard input, numbered, of bounded length, and given back when they were read too far.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// The longest line. No body the webhook takes is near it.
pub(super) const LINE_MAX_BYTES: usize = 256 * 1024;

/// A line without its `\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Bytes of the input up to its end.
    pub(super) end: u64,
    /// Cut at [`LINE_MAX_BYTES`].
    pub(super) text: Vec<u8>,
    /// Whether it was longer.
    pub(super) cut: bool,
}

pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    /// Of the last line read.
    number: u64,
    end: u64,
    given_back: VecDeque<Line>,
}

impl Lines {
    pub(super) fn new(input: Box<dyn BufRead + Send>) -> Self {
        Self { input, number: 0, end: 0, given_back: VecDeque::new() }
    }

    /// The next one; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        match self.given_back.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read(),
        }
    }

    /// Lines to be read again, in their order.
    pub(super) fn give_back(&mut self, lines: Vec<Line>) {
        for line in lines.into_iter().rev() {
            self.given_back.push_front(line);
        }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let limit = LINE_MAX_BYTES as u64 + 1;
        self.end += Read::take(&mut self.input, limit).read_until(b'\n', &mut text)? as u64;
        if text.is_empty() {
            return Ok(None);
        }
        let cut = text.len() > LINE_MAX_BYTES && text.last() != Some(&b'\n');
        while cut && !self.skip()? {}
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        text.truncate(LINE_MAX_BYTES);
        self.number += 1;
        Ok(Some(Line { number: self.number, end: self.end, text, cut }))
    }

    /// Skips to the end of the line or of the buffer; gives whether the line has ended.
    fn skip(&mut self) -> io::Result<bool> {
        let buffer = match self.input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            buffer => buffer?,
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let amount = end.map_or(buffer.len(), |index| index + 1);
        self.input.consume(amount);
        self.end += amount as u64;
        Ok(end.is_some() || amount == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: Vec<u8>) -> Lines {
        // A small buffer, so that lines span several.
        Lines::new(Box::new(io::BufReader::with_capacity(7, io::Cursor::new(input))))
    }

    #[test]
    fn lines_are_numbered_and_can_be_given_back() {
        let mut lines = lines(b"one\n\nthree\r\nfour".to_vec());
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(line);
        }
        let seen: Vec<_> = read.iter().map(|line| (line.number, line.end, line.text.as_slice())).collect();
        assert_eq!(seen, [(1, 4, &b"one"[..]), (2, 5, b""), (3, 12, b"three\r"), (4, 16, b"four")]);
        lines.give_back(read[1..3].to_vec());
        assert_eq!(lines.next().unwrap().as_ref(), Some(&read[1]));
        assert_eq!(lines.next().unwrap().as_ref(), Some(&read[2]));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; LINE_MAX_BYTES];
        input.extend(b"\n");
        input.extend(vec![b'y'; 3 * LINE_MAX_BYTES]);
        input.extend(b"\nshort\n");
        let length = input.len() as u64;
        let mut lines = lines(input);
        let whole = lines.next().unwrap().unwrap();
        assert_eq!((whole.text.len(), whole.cut), (LINE_MAX_BYTES, false));
        let long = lines.next().unwrap().unwrap();
        assert_eq!((long.number, long.text.len(), long.cut), (2, LINE_MAX_BYTES, true));
        let short = lines.next().unwrap().unwrap();
        assert_eq!((short.text.as_slice(), short.end), (&b"short"[..], length));
        assert_eq!(lines.next().unwrap(), None);
    }
}
