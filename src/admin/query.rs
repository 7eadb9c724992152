//! The part of a target behind `?`. What is not understood is refused by name, not passed over.

use std::ops::RangeInclusive;

use percent_encoding::percent_decode_str;

use crate::http::{Head, Reply};

/// Parameters at most; no request has more than three.
const PARAMETERS_MAX: usize = 8;

/// Parameters to be taken one by one.
#[derive(Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart. `+` is a plus sign (RFC 3986), as in many a contact id, and no space.
    pub(super) fn of(head: Head<'_>) -> Result<Self, Reply> {
        Self::parse(head.query().unwrap_or_default())
    }

    fn parse(query: &str) -> Result<Self, Reply> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text| percent_decode_str(text).decode_utf8().map(String::from);
            let (Ok(name), Ok(value)) = (decode(name), decode(value)) else {
                return Err(Reply::new(400, "Invalid query: not UTF-8"));
            };
            if parameters.iter().any(|(before, _)| *before == name) {
                return Err(invalid(&name, "given more than once"));
            }
            if parameters.len() == PARAMETERS_MAX {
                return Err(Reply::new(400, "Invalid query: too many parameters"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter, if it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// An event's id.
    pub(super) fn take_id(&mut self, name: &str) -> Result<Option<u64>, Reply> {
        let Some(value) = self.take(name) else { return Ok(None) };
        parse_id(&value).map(Some).ok_or_else(|| invalid(name, &format!("{value:?} is no id")))
    }

    /// A number within `allowed`.
    pub(super) fn take_number(
        &mut self,
        name: &str,
        allowed: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Reply> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.parse().ok().filter(|number| allowed.contains(number));
        let why = || format!("{value:?}, {} to {} are allowed", allowed.start(), allowed.end());
        number.map(Some).ok_or_else(|| invalid(name, &why()))
    }

    /// Says that there must be no other parameters.
    pub(super) fn end(self) -> Result<(), Reply> {
        self.0.first().map_or(Ok(()), |(name, _)| Err(invalid(name, "there is no such parameter here")))
    }
}

/// An event's id: digits only, in the store's range.
pub(super) fn parse_id(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id: i64 = if digits { text.parse().ok()? } else { return None };
    Some(id.cast_unsigned())
}

/// The answer to a parameter that cannot be used.
pub(super) fn invalid(name: &str, why: &str) -> Reply {
    // The client's words come back escaped and cut: they may be hostile to whoever prints them.
    let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
    let why: String = why.chars().take(256).collect();
    Reply::with_text(400, format!("Invalid {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Query {
        Query::parse(query).unwrap()
    }

    #[test]
    fn values_are_decoded_and_a_plus_sign_is_one() {
        assert_eq!(parse("contact=%2B49%20a").take("contact").unwrap(), "+49 a");
        assert_eq!(parse("contact=+49").take("contact").unwrap(), "+49");
        assert_eq!(parse("a&b=").take("a").unwrap(), "");
        assert_eq!(parse("&&a=1&").take("a").unwrap(), "1");
        assert!(parse("").take("a").is_none());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for query in ["a=1&a=2", "a=%ff", "%ff=1", "a&b&c&d&e&f&g&h&i"] {
            assert_eq!(Query::parse(query).err().unwrap().status(), 400, "{query}");
        }
        assert!(parse("limit=5").end().is_err());
        for limit in ["0", "1001", "-1", "x", "", "1.0", "99999999999999999999"] {
            let number = parse(&format!("limit={limit}")).take_number("limit", 1..=1000);
            assert_eq!(number.err().unwrap().status(), 400, "{limit}");
        }
        for id in ["", "-1", "+1", "1 ", "0x1", "9223372036854775808"] {
            assert_eq!(parse_id(id), None, "{id}");
        }
        assert_eq!(parse_id("9223372036854775807"), Some(i64::MAX.cast_unsigned()));
    }
}
