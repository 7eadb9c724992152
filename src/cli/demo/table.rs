//! How the demo looks: a table of 80 columns, coloured on a terminal.

use std::io::Write;

use super::acts::{self, Becomes};
use super::verify::{Kept, Seen};
use crate::error::Error;
use crate::event::Severity;
use crate::store::State;

/// The widest line.
const WIDTH: usize = 80;

/// What is left of it beside number, contact, code and reply.
const REST_WIDTH: usize = WIDTH - 29;
/// Contact and code of a request that could not be read.
const UNKNOWN: (&str, &str) = ("-", "-");

/// Where the demo is printed.
pub(super) struct Screen<W> {
    out: W,
    colours: bool,
}

/// Standard output; in colours on a terminal, unless the user wants none (no-color.org).
pub(super) fn standard_output() -> Screen<std::io::Stdout> {
    Screen { colours: crate::cli::table::styled(), out: std::io::stdout() }
}

/// How a cell looks (ECMA-48 SGR).
#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
        }
    }
}

impl<W: Write> Screen<W> {
    /// Anything else that can be written to, without colours.
    #[cfg(test)]
    pub(super) fn plain(out: W) -> Self {
        Self { out, colours: false }
    }

    /// One line of text.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Error> {
        self.write(text, Style::Plain)
    }

    /// A line that is less than the others.
    pub(super) fn aside(&mut self, text: &str) -> Result<(), Error> {
        self.write(text, Style::Dim)
    }

    /// A remark on the row above.
    pub(super) fn note(&mut self, text: &str) -> Result<(), Error> {
        self.aside(&shorten(&format!("      {text}"), WIDTH))
    }

    /// The head of a part, below an empty line.
    pub(super) fn title(&mut self, text: &str) -> Result<(), Error> {
        self.line("")?;
        self.write(text, Style::Bold)
    }

    /// A claim that does not hold.
    pub(super) fn wrong(&mut self, text: &str) -> Result<(), Error> {
        self.write(text, Style::Red)
    }

    /// The columns' names.
    pub(super) fn head(&mut self) -> Result<(), Error> {
        let cells = ["#", "contact", "code", "reply", "category", "severity", "verdict", "tries", "time"];
        let text = layout(&cells.map(|cell| (cell.to_owned(), Style::Plain)), false);
        self.aside(&text)
    }

    /// What came of one post of the demo.
    pub(super) fn post(
        &mut self,
        number: usize,
        becomes: &Becomes,
        seen: &Seen,
        note: &str,
    ) -> Result<(), Error> {
        let reply = seen.reply.status;
        match (becomes, &seen.kept) {
            (_, Some(kept)) => self.event(number, reply, kept)?,
            (Becomes::Duplicate(of), None) => {
                let text = format!("kept before, as {of}: not delivered again");
                let (contact, code) = acts::sent(*of).unwrap_or(UNKNOWN);
                self.short(number, contact, code, reply, &text)?;
            }
            (Becomes::NotKept | Becomes::Event(_), None) => {
                self.refused(number, reply, &seen.reply.body)?;
            }
        }
        if note.is_empty() { Ok(()) } else { self.note(note) }
    }

    /// One event, as it stands.
    pub(super) fn event(&mut self, number: usize, reply: u16, kept: &Kept) -> Result<(), Error> {
        let event = &kept.stored.event;
        let (verdict, style) = match kept.stored.state {
            State::Delivered => ("delivered", Style::Green),
            State::Pending => ("pending", Style::Yellow),
            State::Dead => (kept.stored.settled.reason.as_deref().unwrap_or("dead"), Style::Red),
            State::Dropped => ("dropped", Style::Red),
        };
        let severity = match event.severity {
            Severity::Critical => Style::Red,
            Severity::Medium => Style::Yellow,
            Severity::Low => Style::Dim,
        };
        let time = kept.took_ms().map_or_else(String::new, time);
        let text = layout(
            &[
                (number.to_string(), Style::Dim),
                (event.call.contact_id().to_owned(), Style::Plain),
                (event.call.disposition_code().to_owned(), Style::Plain),
                (reply.to_string(), style_of_reply(reply)),
                (event.category.clone(), Style::Plain),
                (event.severity.to_string(), severity),
                (verdict.to_owned(), style),
                (kept.calls().to_string(), Style::Plain),
                (time, Style::Plain),
            ],
            self.colours,
        );
        self.line(&text)
    }

    /// A request that could not be read, or of which nothing is known.
    pub(super) fn refused(&mut self, number: usize, reply: u16, text: &str) -> Result<(), Error> {
        let (contact, code) = UNKNOWN;
        self.short(number, contact, code, reply, text)
    }

    /// A request that became no event of its own.
    fn short(
        &mut self,
        number: usize,
        contact: &str,
        code: &str,
        reply: u16,
        text: &str,
    ) -> Result<(), Error> {
        let cells = [
            (number.to_string(), Style::Dim),
            (contact.to_owned(), Style::Plain),
            (code.to_owned(), Style::Plain),
            (reply.to_string(), style_of_reply(reply)),
        ];
        let row = layout(&cells, self.colours);
        self.line(&format!("{row}  {}", shorten(text, REST_WIDTH)))
    }

    fn write(&mut self, text: &str, style: Style) -> Result<(), Error> {
        let text = paint(text, style, self.colours);
        let written = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
        written.map_err(|error| Error::failed(format!("standard output: {error}")))
    }
}

/// Width of each column, and whether it is flush right; the gap stands before it.
const COLUMNS: [(usize, usize, bool); 9] = [
    (0, 2, true),
    (2, 10, false),
    (2, 5, false),
    (1, 5, true),
    (2, 14, false),
    (2, 8, false),
    (2, 9, false),
    (1, 5, true),
    (1, 7, true),
];

fn layout(cells: &[(String, Style)], colours: bool) -> String {
    let mut row = String::new();
    for ((text, style), (gap, width, right)) in cells.iter().zip(COLUMNS) {
        let text = shorten(text, width);
        let padding = " ".repeat(width - text.chars().count());
        let painted = paint(&text, *style, colours);
        row += &" ".repeat(gap);
        row += &if right { padding + &painted } else { painted + &padding };
    }
    row.trim_end().to_owned()
}

fn paint(text: &str, style: Style, colours: bool) -> String {
    if !colours || style.code().is_empty() || text.is_empty() {
        return text.to_owned();
    }
    format!("{}{text}\x1b[0m", style.code())
}

fn style_of_reply(status: u16) -> Style {
    if status < 300 { Style::Green } else { Style::Yellow }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

fn time(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_the_width_whatever_is_in_it() {
        let long = "ü".repeat(300);
        let cells: Vec<(String, Style)> = (0..9).map(|_| (long.clone(), Style::Red)).collect();
        assert!(layout(&cells, false).chars().count() <= WIDTH);
        let mut out = Vec::new();
        let mut screen = Screen::plain(&mut out);
        screen.short(123, &long, &long, 400, &long).unwrap();
        assert!(String::from_utf8(out).unwrap().trim_end().chars().count() <= WIDTH);
    }

    #[test]
    fn colours_change_no_width() {
        let cells = [("7".to_owned(), Style::Dim), ("contact".to_owned(), Style::Red)];
        let coloured = layout(&cells, true);
        assert!(coloured.contains("\x1b[31mcontact\x1b[0m"), "{coloured:?}");
        let plain: String =
            coloured.split('\x1b').map(|part| part.split_once('m').map_or(part, |p| p.1)).collect();
        assert_eq!(plain, layout(&cells, false));
    }

    #[test]
    fn times_are_short() {
        for (ms, text) in
            [(3, "3 ms"), (999, "999 ms"), (1034, "1.03 s"), (59_999, "59.99 s"), (60_000, "1 min")]
        {
            assert_eq!(time(ms), text);
        }
    }
}
