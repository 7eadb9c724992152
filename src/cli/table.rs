//! A plain text table: columns with heads, numbers flush right, as wide as the terminal at most.
//!
//! What stands in a table came in from outside: nothing of it reaches a terminal as a control character.

use std::borrow::Cow;
use std::io::IsTerminal;

use rustix::termios::tcgetwinsize;

use crate::error::Error;

/// Between two columns.
const GAP: &str = "  ";
/// No column is shortened below this.
const SHRUNK_MIN_WIDTH: usize = 8;
/// Stands for what was cut off; one column wide.
const CUT: char = '…';

/// A column: its head, and how its cells stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    right: bool,
    shrinks: bool,
}

impl Column {
    /// Text that is always shown whole.
    pub(super) const fn text(head: &'static str) -> Self {
        Self { head, right: false, shrinks: false }
    }

    /// Text that may be shortened where the terminal is narrow.
    pub(super) const fn shrinking(head: &'static str) -> Self {
        Self { head, right: false, shrinks: true }
    }

    /// Numbers: flush right, always whole.
    pub(super) const fn number(head: &'static str) -> Self {
        Self { head, right: true, shrinks: false }
    }
}

/// A table in the making. All of it is held, for the widths; what has no bound is not for a table.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one cell a column.
    pub(super) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| harmless(cell.as_ref()).into_owned()).collect());
    }

    /// Writes it to standard output, as that can show it.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn print(&self) -> Result<(), Error> {
        super::print(&self.render(terminal_width(), styled()))
    }

    /// The table as lines of at most `width` columns if the shrinking columns allow it; `None`: as wide as it is.
    pub(super) fn render(&self, width: Option<usize>, styled: bool) -> String {
        let widths = self.widths(width);
        let heads: Vec<&str> = self.columns.iter().map(|column| column.head).collect();
        let head = self.line(&heads, &widths);
        let mut text = if styled { bold(&head) } else { head };
        text.push('\n');
        for row in &self.rows {
            text += &self.line(row, &widths);
            text.push('\n');
        }
        text
    }

    /// The width of each column: that of its widest cell, less what the widest shrinking ones had to give.
    fn widths(&self, width: Option<usize>) -> Vec<usize> {
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| columns_of(cell));
            cells.max().unwrap_or(0).max(columns_of(column.head))
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        let width = width.unwrap_or(usize::MAX);
        while widths.iter().sum::<usize>() + gaps > width {
            let shrinking = |index: &usize| self.columns[*index].shrinks && widths[*index] > SHRUNK_MIN_WIDTH;
            match (0..widths.len()).filter(shrinking).max_by_key(|index| widths[*index]) {
                Some(index) => widths[index] -= 1,
                None => break,
            }
        }
        widths
    }

    fn line<T: AsRef<str>>(&self, cells: &[T], widths: &[usize]) -> String {
        let mut line = String::new();
        for (index, ((cell, column), width)) in cells.iter().zip(&self.columns).zip(widths).enumerate() {
            let cell = fit(cell.as_ref(), *width);
            let padding = " ".repeat(width.saturating_sub(columns_of(&cell)));
            line += if index > 0 { GAP } else { "" };
            if column.right {
                line += &padding;
                line += &cell;
            } else {
                line += &cell;
                line += &padding;
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The terminal's width, if standard output is one.
pub(super) fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| tcgetwinsize(&out).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Whether standard output is to have bold and colours: a terminal that can, and a user who wants (no-color.org).
pub(super) fn styled() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    std::io::stdout().is_terminal() && !unwanted
}

/// `text` in bold (ECMA-48 SGR).
pub(super) fn bold(text: &str) -> String {
    format!("\x1b[1m{text}\x1b[0m")
}

/// `text` with everything escaped that a terminal would act upon, or that would turn or hide its neighbours.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_harmful(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, line and paragraph separators, and those that change the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` in at most `width` columns; `…` stands for what had to go.
pub(super) fn fit(text: &str, width: usize) -> Cow<'_, str> {
    if columns_of(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let mut fitting = String::new();
    for c in text.chars() {
        let Some(rest) = left.checked_sub(columns_of_char(c)) else { break };
        left = rest;
        fitting.push(c);
    }
    fitting.push(CUT);
    Cow::Owned(fitting)
}

/// `text` in lines of at most `width` columns, broken between words where that can be.
pub(super) fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let joined = columns_of(&line) + 1 + columns_of(word);
        if !line.is_empty() && joined > width {
            lines.push(std::mem::take(&mut line));
        }
        line += if line.is_empty() { "" } else { " " };
        for c in word.chars() {
            if !line.is_empty() && columns_of(&line) + columns_of_char(c) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

/// How many columns of a terminal `text` takes.
pub(super) fn columns_of(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(columns_of_char).sum() }
}

/// None for marks on the character before, two for East Asian wide and for emoji (Unicode annex 11, by block), else
/// one.
fn columns_of_char(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x64b..=0x65f
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xe_0100..=0xe_01ef => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1_f300..=0x1_f64f
        | 0x1_f680..=0x1_f6ff
        | 0x1_f900..=0x1_faff
        | 0x2_0000..=0x3_fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[Column::text("code"), Column::number("events"), Column::shrinking("note")]);
        table.row(["1001", "7", "a short one"]);
        table.row(["東京", "1200", "a note that is longer than a narrow terminal is wide"]);
        table
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let text = table().render(None, false);
        assert_eq!(
            text,
            "code  events  note\n1001       7  a short one\n東京    1200  a note that is longer than a narrow terminal is wide\n"
        );
    }

    #[test]
    fn a_narrow_terminal_shortens_what_may_be() {
        let text = table().render(Some(30), false);
        assert!(text.lines().all(|line| columns_of(line) <= 30), "{text}");
        assert!(text.contains("東京    1200  a note that is …\n"), "{text}");
        let text = table().render(Some(5), false);
        assert!(text.contains("1200  a note …\n"), "what may not shrink stays whole: {text}");
    }

    #[test]
    fn only_the_head_is_bold_and_only_where_it_may_be() {
        let text = table().render(None, true);
        assert!(text.starts_with("\x1b[1mcode  events  note\x1b[0m\n1001"), "{text:?}");
        assert_eq!(text.matches('\x1b').count(), 2);
    }

    #[test]
    fn nothing_in_a_cell_reaches_the_terminal_as_a_command() {
        let mut table = Table::new(&[Column::text("contact")]);
        table.row(["\x1b[2J\u{9b}1m\r\n\t\u{202e}cba\u{2028}"]);
        assert_eq!(table.render(None, false), "contact\n\\u{1b}[2J\\u{9b}1m\\r\\n\\t\\u{202e}cba\\u{2028}\n");
    }

    #[test]
    fn long_text_is_folded_between_words_and_within_what_is_none() {
        assert_eq!(fold("one two three", 7), ["one two", "three"]);
        assert_eq!(fold("a 0123456789 b", 4), ["a", "0123", "4567", "89 b"]);
        assert_eq!(fold("東京都", 4), ["東京", "都"]);
        assert_eq!(fold("", 4), [""]);
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        for (text, columns) in
            [("", 0), ("abc", 3), ("äöü", 3), ("e\u{301}", 1), ("東京", 4), ("☎", 1), ("📞", 2)]
        {
            assert_eq!(columns_of(text), columns, "{text}");
        }
        assert_eq!(fit("東京都", 4), "東…");
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 1), "…");
    }
}
