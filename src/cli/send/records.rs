//! Call results in a file: JSON Lines, or CSV with a header. What is wrong with one of them is said with its line, and
//! the next one is read.

use std::io;

use serde::Serialize;

use super::csv::{Fields, Header};
use super::lines::{LINE_MAX_BYTES, Line, Lines};
use crate::event::CallResult;

/// Lines one CSV record may have; a quote still open behind them was never meant to be.
const RECORD_LINES_MAX: usize = 100;
/// What some programs put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads records one after the other.
pub(super) struct Records {
    lines: Lines,
    /// `None`: JSON Lines.
    header: Option<Header>,
}

/// A record as it stands in the input.
pub(super) struct Record {
    /// Its first line.
    pub(super) line: u64,
    /// The line behind it.
    pub(super) next_line: u64,
    /// Bytes of the input up to its end.
    pub(super) end: u64,
    raw: Result<Raw, String>,
}

enum Raw {
    Json(Vec<u8>),
    Csv(Fields),
}

/// A record that can be sent.
pub(super) struct Call {
    /// Whose it is.
    pub(super) contact_id: String,
    /// What is posted.
    pub(super) body: Vec<u8>,
}

impl Records {
    /// Looks at the beginning: an object is JSON Lines, anything else a header.
    ///
    /// # Errors
    /// It cannot be read, or is no header that serves.
    pub(super) fn open(mut lines: Lines) -> Result<Self, String> {
        let first = loop {
            let Some(mut line) = lines.next().map_err(|error| error.to_string())? else { break None };
            if let Some(rest) = line.text.strip_prefix(BYTE_ORDER_MARK) {
                line.text = rest.to_owned();
            }
            if !line.text.trim_ascii().is_empty() {
                break Some(line);
            }
        };
        // What is empty holds no records of any kind.
        let header = match first {
            Some(line) if !line.text.trim_ascii().starts_with(b"{") => {
                let number = line.number;
                Some(Header::parse(&line.text).map_err(|why| format!("line {number}: {why}"))?)
            }
            line => {
                lines.give_back(line.into_iter().collect());
                None
            }
        };
        Ok(Self { lines, header })
    }

    /// The next record; `None` at the end. Empty lines are passed over.
    ///
    /// # Errors
    /// The input cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        while let Some(line) = self.lines.next()? {
            if line.text.trim_ascii().is_empty() {
                continue;
            }
            if line.cut {
                let why = format!("longer than {LINE_MAX_BYTES} bytes");
                return Ok(Some(Record::bad(&line, why)));
            }
            return match &self.header {
                Some(header) => csv(header, &mut self.lines, line).map(Some),
                None => Ok(Some(Record::of(&line, &line, Ok(Raw::Json(line.text.trim_ascii().to_owned()))))),
            };
        }
        Ok(None)
    }
}

/// The record that begins with `first`. Of one that goes wrong only the first line is given up.
fn csv(header: &Header, lines: &mut Lines, first: Line) -> io::Result<Record> {
    let mut parser = header.parser();
    let mut taken = vec![first];
    let why = loop {
        let last = &taken[taken.len() - 1];
        match parser.feed(&last.text) {
            Ok(true) => {
                let raw = header.pick(parser).map(Raw::Csv);
                return Ok(Record::of(&taken[0], last, raw));
            }
            Ok(false) if taken.len() < RECORD_LINES_MAX => match lines.next()? {
                Some(line) if line.cut => {
                    taken.push(line);
                    break "a quote is opened and not closed".to_owned();
                }
                Some(line) => taken.push(line),
                None => break "a quote is opened and not closed".to_owned(),
            },
            Ok(false) => break format!("a quote is opened and not closed within {RECORD_LINES_MAX} lines"),
            Err(why) => break why,
        }
    };
    let record = Record::bad(&taken[0], why);
    lines.give_back(taken.split_off(1));
    Ok(record)
}

impl Record {
    fn of(first: &Line, last: &Line, raw: Result<Raw, String>) -> Self {
        Self { line: first.number, next_line: last.number + 1, end: last.end, raw }
    }

    fn bad(line: &Line, why: String) -> Self {
        Self::of(line, line, Err(why))
    }

    /// What is to be sent.
    ///
    /// # Errors
    /// It is no call result; the words are those the webhook would answer.
    pub(super) fn call(self) -> Result<Call, String> {
        match self.raw? {
            Raw::Json(body) => {
                let call = CallResult::parse(&body).map_err(|error| error.to_string())?;
                Ok(Call { contact_id: call.contact_id().to_owned(), body })
            }
            Raw::Csv([contact_id, code, result, timestamp]) => {
                let call = CallResult::new(&contact_id, &code, Some(&result), Some(&timestamp))
                    .map_err(|error| error.to_string())?;
                let body = serde_json::to_vec(&Body::of(&call)).map_err(|error| error.to_string())?;
                Ok(Call { contact_id, body })
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contact_id: &'a str,
    disposition_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'a str>,
}

impl<'a> Body<'a> {
    fn of(call: &'a CallResult) -> Self {
        Self {
            contact_id: call.contact_id(),
            disposition_code: call.disposition_code(),
            call_result: call.call_result(),
            timestamp: call.timestamp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, the line behind, and the body or what is wrong.
    fn read(input: &str) -> Vec<(u64, u64, String)> {
        let lines = Lines::new(Box::new(io::Cursor::new(input.as_bytes().to_vec())));
        let mut records = Records::open(lines).unwrap();
        let mut read = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let (line, next_line) = (record.line, record.next_line);
            let text = match record.call() {
                Ok(call) => String::from_utf8(call.body).unwrap(),
                Err(why) => why,
            };
            read.push((line, next_line, text));
        }
        read
    }

    #[test]
    fn json_lines_are_sent_as_they_are() {
        let read = read(
            "\u{feff}\n  {\"contactId\": 7, \"dispositionCode\":\"1001\"} \r\n\n[1]\n{\"contactId\":\"7\"}\n{",
        );
        assert_eq!(
            read,
            [
                (2, 3, "{\"contactId\": 7, \"dispositionCode\":\"1001\"}".to_owned()),
                (4, 5, "Invalid JSON payload".to_owned()),
                (5, 6, "Missing contactId or dispositionCode".to_owned()),
                (6, 7, "Invalid JSON payload".to_owned()),
            ]
        );
    }

    #[test]
    fn a_mark_of_the_byte_order_is_no_part_of_the_first_record() {
        let read = read("\u{feff}{\"contactId\":\"7\",\"dispositionCode\":\"1001\"}");
        assert_eq!(read[0].2, "{\"contactId\":\"7\",\"dispositionCode\":\"1001\"}");
    }

    #[test]
    fn csv_becomes_json() {
        let read = read(
            "dispositionCode,contactId,note,callResult,timestamp\r\n\
             1001,7,\"two\nlines, one record\",ANSWERED,2024-05-20T10:00:00Z\r\n\r\n1001,\"a \"\"b\"\"\"\n",
        );
        assert_eq!(
            read,
            [
                (
                    2,
                    4,
                    "{\"contactId\":\"7\",\"dispositionCode\":\"1001\",\"callResult\":\"ANSWERED\",\
                     \"timestamp\":\"2024-05-20T10:00:00Z\"}"
                        .to_owned()
                ),
                (5, 6, "{\"contactId\":\"a \\\"b\\\"\",\"dispositionCode\":\"1001\"}".to_owned()),
            ]
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_own_record_only() {
        let good = |n: usize| format!("{n},1001\n");
        let rest: String = (3..300).map(good).collect();
        let read = read(&format!("contactId,dispositionCode\n\"2,1001\n{rest}"));
        assert_eq!(read[0].2, "a quote is opened and not closed within 100 lines");
        assert_eq!(read.len(), 298);
        assert!(read[1..].iter().all(|(line, next, text)| {
            *next == line + 1 && *text == format!("{{\"contactId\":\"{line}\",\"dispositionCode\":\"1001\"}}")
        }));
    }
}
