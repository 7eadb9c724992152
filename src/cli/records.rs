//! Results for other programs: the same records as JSON Lines and as CSV (RFC 4180), under the same names.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

use super::table::{Column, Table};
use crate::error::Error;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For a person
    Table,
    /// One JSON object a line
    Jsonl,
    /// RFC 4180 with a header
    Csv,
}

impl Format {
    /// Says something beside the records: to a person where these go, else where a program does not read.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn say(self, words: &str) -> Result<(), Error> {
        if self == Self::Table {
            return super::print(&format!("{words}\n"));
        }
        eprintln!("dispod: {words}");
        Ok(())
    }
}

/// A value of a record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Cell<'a> {
    /// `null` in JSON, an empty field in CSV.
    Nothing,
    /// Text; empty text is `""` in both.
    Text(Cow<'a, str>),
    /// A number.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u32> for Cell<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Cell<'_> {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

impl Cell<'_> {
    /// As it stands in a table.
    fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Nothing => "-".into(),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => number.to_string().into(),
            Self::Flag(true) => "yes".into(),
            Self::Flag(false) => "no".into(),
        }
    }
}

/// Writes records one by one.
pub(super) struct Records<W> {
    out: W,
    names: &'static [&'static str],
    csv: bool,
}

impl<W: Write> Records<W> {
    /// CSV, with its header.
    pub(super) fn csv(mut out: W, names: &'static [&'static str]) -> io::Result<Self> {
        out.write_all(names.join(",").as_bytes())?;
        out.write_all(b"\r\n")?;
        Ok(Self { out, names, csv: true })
    }

    /// JSON Lines.
    pub(super) fn jsonl(out: W, names: &'static [&'static str]) -> Self {
        Self { out, names, csv: false }
    }

    /// One record, a cell a name.
    pub(super) fn write(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        debug_assert_eq!(cells.len(), self.names.len(), "a cell a name");
        for (index, (name, cell)) in self.names.iter().zip(cells).enumerate() {
            match (self.csv, index) {
                (true, 0) => {}
                (true, _) => self.out.write_all(b",")?,
                (false, 0) => write!(self.out, "{{\"{name}\":")?,
                (false, _) => write!(self.out, ",\"{name}\":")?,
            }
            match cell {
                cell if !self.csv => serde_json::to_writer(&mut self.out, cell)?,
                Cell::Nothing => {}
                Cell::Text(text) => self.field(text)?,
                Cell::Number(number) => write!(self.out, "{number}")?,
                Cell::Flag(flag) => write!(self.out, "{flag}")?,
            }
        }
        self.out.write_all(if self.csv { b"\r\n" } else { b"}\n" })
    }

    /// Ends the writing.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn field(&mut self, text: &str) -> io::Result<()> {
        if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
            return self.out.write_all(text.as_bytes());
        }
        write!(self.out, "\"{}\"", text.replace('"', "\"\""))
    }
}

/// A short report: all of its records, in any format.
pub(super) struct Report {
    /// Names in JSON and CSV.
    pub(super) names: &'static [&'static str],
    /// Columns of the table.
    pub(super) columns: &'static [Column],
    /// The records.
    pub(super) records: Vec<Vec<Cell<'static>>>,
}

impl Report {
    /// Writes it to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn print(&self, format: Format) -> Result<(), Error> {
        let out = || io::BufWriter::new(io::stdout().lock());
        match format {
            Format::Table if self.records.is_empty() => Ok(()),
            Format::Table => {
                let mut table = Table::new(self.columns);
                for record in &self.records {
                    table.row(record.iter().map(Cell::shown));
                }
                table.print()
            }
            Format::Jsonl => super::written(self.write(Records::jsonl(out(), self.names))),
            Format::Csv => {
                super::written(Records::csv(out(), self.names).and_then(|records| self.write(records)))
            }
        }
    }

    fn write(&self, mut records: Records<impl Write>) -> io::Result<()> {
        self.records.iter().try_for_each(|record| records.write(record))?;
        records.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> [Cell<'static>; 4] {
        ["a \"b\", c\r\n=d".into(), Cell::Nothing, Cell::Number(-7), Cell::Flag(true)]
    }

    const NAMES: &[&str] = &["text", "nothing", "number", "flag"];

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let mut out = Vec::new();
        let mut records = Records::csv(&mut out, NAMES).unwrap();
        records.write(&record()).unwrap();
        records.write(&["".into(), Cell::Nothing, Cell::Nothing, Cell::Flag(false)]).unwrap();
        records.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "text,nothing,number,flag\r\n\"a \"\"b\"\", c\r\n=d\",,-7,true\r\n\"\",,,false\r\n");
    }

    #[test]
    fn jsonl_is_one_object_a_line_in_the_order_of_the_names() {
        let mut out = Vec::new();
        let mut records = Records::jsonl(&mut out, NAMES);
        records.write(&record()).unwrap();
        records.finish().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"text":"a \"b\", c\r\n=d","nothing":null,"number":-7,"flag":true}"#.to_owned() + "\n"
        );
    }
}
