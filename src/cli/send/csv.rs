//! CSV as RFC 4180 has it, line by line, so that a quote that is never closed costs one record and not all that
//! follow. Pure.

/// The columns that are sent, as their heads name them.
const COLUMNS: [&str; 4] = ["contactId", "dispositionCode", "callResult", "timestamp"];
/// How many of them, from the first, must be there.
const REQUIRED: usize = 2;
/// What may stand between two fields. Spreadsheets of some countries write the others.
const DELIMITERS: [u8; 3] = *b",;\t";

/// What the first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    delimiter: u8,
    width: usize,
    /// Where each of [`COLUMNS`] stands.
    places: [Option<usize>; 4],
}

/// The fields of [`COLUMNS`], in that order; empty where there is no such column.
pub(super) type Fields = [String; 4];

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// Which column is missing or there twice.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let mut first_fault = None;
        for delimiter in DELIMITERS {
            match Self::with_delimiter(line, delimiter) {
                Ok(header) => return Ok(header),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        Err(first_fault.unwrap_or_default())
    }

    fn with_delimiter(line: &[u8], delimiter: u8) -> Result<Self, String> {
        let mut parser = Parser::new(delimiter);
        if !parser.feed(line)? {
            return Err("a quote is not closed in the header".to_owned());
        }
        let heads = parser.into_fields()?;
        let mut places = [None; COLUMNS.len()];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            let mut found =
                (0..heads.len()).filter(|index| heads[*index].trim().eq_ignore_ascii_case(column));
            *place = found.next();
            if found.next().is_some() {
                return Err(format!("the header has {column} twice"));
            }
        }
        if let Some(missing) = (0..REQUIRED).find(|index| places[*index].is_none()) {
            let found = heads.join(", ");
            let found: String = found.chars().take(200).collect();
            return Err(format!("the header has no column {}, it has: {found}", COLUMNS[missing]));
        }
        Ok(Self { delimiter, width: heads.len(), places })
    }

    /// To read a record with.
    pub(super) fn parser(&self) -> Parser {
        Parser::new(self.delimiter)
    }

    /// Picks what is sent from a whole record.
    ///
    /// # Errors
    /// It is not UTF-8, or has more fields than the header: what is where cannot be known then.
    pub(super) fn pick(&self, parser: Parser) -> Result<Fields, String> {
        let mut fields = parser.into_fields()?;
        if fields.len() > self.width {
            return Err(format!("{} fields, the header has {}", fields.len(), self.width));
        }
        let field = |place: Option<usize>| place.and_then(|index| fields.get_mut(index)).map(std::mem::take);
        Ok(self.places.map(field).map(Option::unwrap_or_default))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first half of a quote.
    Closing,
}

/// Takes a record apart, line by line.
pub(super) struct Parser {
    delimiter: u8,
    fields: Vec<Vec<u8>>,
    field: Vec<u8>,
    state: State,
}

impl Parser {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, fields: Vec::new(), field: Vec::new(), state: State::Start }
    }

    /// Takes a line without its `\n`; gives whether the record is whole.
    ///
    /// # Errors
    /// It is no CSV.
    pub(super) fn feed(&mut self, line: &[u8]) -> Result<bool, String> {
        let (line, carriage_return) = match line.strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (line, false),
        };
        for byte in line {
            match (self.state, *byte) {
                (State::Start, b'"') => self.state = State::Quoted,
                (State::Quoted, b'"') => self.state = State::Closing,
                (State::Closing, b'"') => {
                    self.field.push(b'"');
                    self.state = State::Quoted;
                }
                (State::Quoted, byte) => self.field.push(byte),
                (_, byte) if byte == self.delimiter => self.end_field(),
                (State::Closing, _) => return Err("text behind a closing quote".to_owned()),
                (State::Start | State::Plain, byte) => {
                    self.field.push(byte);
                    self.state = State::Plain;
                }
            }
        }
        if self.state == State::Quoted {
            self.field.extend(if carriage_return { &b"\r\n"[..] } else { b"\n" });
            return Ok(false);
        }
        self.end_field();
        Ok(true)
    }

    fn end_field(&mut self) {
        self.fields.push(std::mem::take(&mut self.field));
        self.state = State::Start;
    }

    fn into_fields(self) -> Result<Vec<String>, String> {
        let fields = self.fields.into_iter().map(String::from_utf8);
        fields.collect::<Result<_, _>>().map_err(|_| "not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(header: &Header, lines: &[&str]) -> Result<Fields, String> {
        let mut parser = header.parser();
        for (index, line) in lines.iter().enumerate() {
            let whole = parser.feed(line.as_bytes())?;
            assert_eq!(whole, index + 1 == lines.len(), "{line}");
        }
        header.pick(parser)
    }

    #[test]
    fn columns_stand_anywhere_and_others_are_passed_over() {
        let header = Header::parse(b"agent,timestamp,\"dispositionCode\",CONTACTID\r").unwrap();
        let fields = record(&header, &["Smith,2024-05-20T10:00:00Z,1001,77\r"]).unwrap();
        assert_eq!(fields, ["77", "1001", "", "2024-05-20T10:00:00Z"]);
        assert_eq!(record(&header, &["Smith,,1001"]).unwrap(), ["", "1001", "", ""]);
        let error = record(&header, &["Smith,John,,1001,77"]).unwrap_err();
        assert_eq!(error, "5 fields, the header has 4");
    }

    #[test]
    fn quotes_as_rfc_4180_has_them() {
        let header = Header::parse(b"contactId,dispositionCode,callResult").unwrap();
        for (lines, fields) in [
            (&["\"7\",\"10,01\",\"said \"\"no\"\"\""][..], ["7", "10,01", "said \"no\""]),
            (&["\"\",,\"\""], ["", "", ""]),
            (&["7,1001,\"two\r", "lines\""], ["7", "1001", "two\r\nlines"]),
            (&["7,1001,\"", "", "\"\"\"\r"], ["7", "1001", "\n\n\""]),
            (&["7,1001,5\" screen"], ["7", "1001", "5\" screen"]),
        ] {
            assert_eq!(record(&header, lines).unwrap()[..3], fields, "{lines:?}");
        }
        assert_eq!(record(&header, &["7,\"1001\"x,"]).unwrap_err(), "text behind a closing quote");
    }

    #[test]
    fn other_delimiters_show_in_the_header() {
        for header in ["contactId;dispositionCode", "contactId\tdispositionCode"] {
            let delimiter = header.as_bytes()[9] as char;
            let header = Header::parse(header.as_bytes()).unwrap();
            assert_eq!(record(&header, &[&format!("7{delimiter}1,5")]).unwrap()[..2], ["7", "1,5"]);
        }
    }

    #[test]
    fn a_header_that_does_not_serve_is_refused() {
        for (header, why) in [
            ("contact,dispositionCode", "no column contactId, it has: contact, dispositionCode"),
            ("contactId,code", "no column dispositionCode"),
            ("contactId,dispositionCode,contactid", "contactId twice"),
            ("[", "no column contactId"),
            ("contactId,\"dispositionCode", "not closed"),
        ] {
            let error = Header::parse(header.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{header}: {error}");
        }
    }
}
