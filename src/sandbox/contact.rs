//! The Contact API: one strict endpoint, `PATCH /api/v2/contacts/{id}` (contract section 7).

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tiny_http::Method;

use super::answer::{Buffers, Call, Fate, shorten};
use super::options::{Behaviour, Faults, Reply, RetryAfter};
use super::server::Shared;
use super::token::Standing;
use crate::event::CONTACT_ID_MAX_BYTES;

/// Where contacts live.
pub(super) const PREFIX: &str = "/api/v2/contacts/";

const CUSTOM_START: &[u8] = b"{\"custom\":";

/// The body of an update, members in the order of the contract.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    custom: Attributes<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes<'a> {
    #[serde(borrow)]
    disposition_category: Cow<'a, str>,
    #[serde(borrow)]
    last_audit_log: Cow<'a, str>,
}

/// Answers a request under [`PREFIX`]; `segment` is what follows it. `hold` waits out the latency and gives false
/// when the sandbox stops meanwhile.
pub(super) fn answer(
    shared: &Shared,
    call: &Call<'_>,
    segment: &str,
    hold: &dyn Fn(Duration) -> bool,
    out: &mut Buffers,
) -> Fate {
    let arrived = Instant::now();
    if *call.method != Method::Patch {
        out.error(405, "Allow: PATCH\r\n", "method_not_allowed", "contacts are updated by PATCH");
        return Fate::Answered;
    }
    let id = match decode_segment(segment) {
        Ok(id) => id,
        Err(why) => return refuse(shared, call, format!("contact id `{}`: {why}", shorten(segment)), out),
    };
    let custom = match check(call, out) {
        Ok(custom) => custom,
        Err(why) => return refuse(shared, call, format!("contact `{}`: {why}", shorten(&id)), out),
    };
    let behaviour = shared.behaviour();
    let planned = shared.change(|ledger| ledger.arrive(&id, call.remote.port(), arrived, &behaviour));
    let reply = match planned {
        Reply::Normal | Reply::Cut => match shared.standing(call) {
            Standing::Good if planned == Reply::Normal => work(shared, &behaviour, hold),
            Standing::Good => Some(planned),
            bad => {
                settle(shared, &id, None, Some(401));
                let header = "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n";
                out.error(401, header, "invalid_token", bad.in_words());
                return Fate::Answered;
            }
        },
        planned => Some(planned),
    };
    let Some(reply) = reply else {
        // Stopping: as a crash, nothing is committed and nothing answered.
        settle(shared, &id, None, None);
        return Fate::Reset;
    };
    conclude(shared, &id, custom, reply, out)
}

/// Settles a call as `reply` says. The call is no longer in flight before the first byte of its answer leaves.
fn conclude(shared: &Shared, id: &str, custom: &str, reply: Reply, out: &mut Buffers) -> Fate {
    match reply {
        Reply::Normal | Reply::Cut => {
            success(id, custom, out);
            let whole = reply == Reply::Normal;
            settle(shared, id, Some(custom), whole.then_some(200));
            if whole { Fate::Answered } else { Fate::Cut }
        }
        Reply::Status(status) => {
            out.bare(status, RetryAfter::Absent);
            settle(shared, id, None, Some(status));
            Fate::Answered
        }
        Reply::RetryLater(status, retry_after) => {
            out.bare(status, retry_after);
            shared.change(|ledger| {
                ledger.settle(id, None, Some(status));
                ledger.tell(retry_after, Instant::now());
            });
            Fate::Answered
        }
        Reply::Hang => {
            settle(shared, id, None, None);
            Fate::Hang
        }
        Reply::Reset => {
            settle(shared, id, None, None);
            Fate::Reset
        }
    }
}

fn settle(shared: &Shared, id: &str, custom: Option<&str>, status: Option<u16>) {
    shared.change(|ledger| ledger.settle(id, custom, status));
}

/// Takes the time an update takes and says how it went; `None`: the sandbox stops.
fn work(shared: &Shared, behaviour: &Behaviour, hold: &dyn Fn(Duration) -> bool) -> Option<Reply> {
    let (shortest, longest) = (*behaviour.latency.start(), *behaviour.latency.end());
    let latency = match longest.saturating_sub(shortest) {
        Duration::ZERO => longest,
        spread => shortest + spread.mul_f64(shared.roll()),
    };
    if !latency.is_zero() && !hold(latency) {
        return None;
    }
    let chances = chances(behaviour);
    if chances.iter().all(|(chance, _)| *chance <= 0.0) {
        return Some(Reply::Normal);
    }
    let mut roll = shared.roll();
    for (chance, reply) in chances {
        if roll < chance {
            return Some(reply);
        }
        roll -= chance;
    }
    Some(Reply::Normal)
}

fn chances(behaviour: &Behaviour) -> [(f64, Reply); 6] {
    let Faults { hang, cut, reset, error, throttle } = behaviour.faults;
    [
        (behaviour.error_rate, Reply::Status(503)),
        (hang, Reply::Hang),
        (cut, Reply::Cut),
        (reset, Reply::Reset),
        (error, Reply::Status(500)),
        (throttle, Reply::Status(429)),
    ]
}

/// The tutorial's answer to an update.
fn success(id: &str, custom: &str, out: &mut Buffers) {
    use std::io::Write as _;
    out.body.clear();
    // Writing to a Vec cannot fail.
    let _ = out.body.write_all(b"{\"id\":");
    let _ = serde_json::to_writer(&mut out.body, id);
    let _ = write!(out.body, ",\"custom\":{custom},\"updatedDate\":\"{:.0}\"}}", jiff::Timestamp::now());
    out.finish(200, "");
}

fn refuse(shared: &Shared, call: &Call<'_>, why: String, out: &mut Buffers) -> Fate {
    out.error(400, "", "invalid_request", &why);
    shared.change(|ledger| ledger.refuse(call.remote.port(), why));
    Fate::Answered
}

/// Decodes one percent-encoded path segment (RFC 3986 section 2): only unreserved characters stand for themselves.
fn decode_segment(segment: &str) -> Result<Cow<'_, str>, String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next(), bytes.next()];
            if !hex.iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())) {
                return Err("`%` without two hexadecimal digits".to_owned());
            }
        } else if !unreserved(byte) {
            return Err(format!("`{}` is not percent-encoded", char::from(byte)));
        }
    }
    if matches!(segment, "" | "." | "..") {
        return Err("this is no path segment of its own".to_owned());
    }
    let id = percent_encoding::percent_decode_str(segment).decode_utf8();
    let id = id.map_err(|_| "it does not decode to UTF-8".to_owned())?;
    if id.len() > CONTACT_ID_MAX_BYTES {
        return Err(format!("{} bytes, at most {CONTACT_ID_MAX_BYTES} are allowed", id.len()));
    }
    if id.chars().any(char::is_control) {
        return Err("it decodes to control characters".to_owned());
    }
    Ok(id)
}

/// Checks headers and body against contract section 7; gives the JSON of the custom attributes.
fn check<'a>(call: &Call<'a>, out: &mut Buffers) -> Result<&'a str, String> {
    call.header("Authorization")?;
    call.require("Content-Type", "application/json")?;
    call.require("Accept", "application/json")?;
    let body: Body<'_> = serde_json::from_slice(call.body).map_err(|error| format!("body: {error}"))?;
    out.json(&body);
    if out.body != call.body {
        return Err(difference(call.body, &out.body));
    }
    let Attributes { disposition_category: category, last_audit_log: line } = &body.custom;
    let code = line
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(category.as_ref()))
        .and_then(|rest| rest.strip_suffix(" mapped to "))
        .and_then(|rest| rest.split_once("] Disposition "));
    if category.is_empty() || code.is_none_or(|(time, code)| time.is_empty() || code.is_empty()) {
        return Err(format!(
            "last_audit_log is `{}`, `[TIME] Disposition CODE mapped to {}` is expected",
            shorten(line),
            shorten(category)
        ));
    }
    let custom = &call.body[CUSTOM_START.len()..call.body.len() - 1];
    std::str::from_utf8(custom).map_err(|_| "body is not UTF-8".to_owned())
}

/// Where two bodies begin to differ, in words.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let at = found.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let rest = |body: &[u8]| shorten(&String::from_utf8_lossy(&body[at..])).to_owned();
    format!("body differs at byte {at}: `{}` found, `{}` expected", rest(found), rest(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        let long = "a".repeat(CONTACT_ID_MAX_BYTES);
        for (segment, id) in [
            ("1234567890", "1234567890"),
            ("a-b_c.d~e", "a-b_c.d~e"),
            ("..%2F..%2Foauth%2Ftoken%3Fx%3D", "../../oauth/token?x="),
            ("%2E%2E", ".."),
            ("%c3%bc%2F%C3%A9", "ü/é"),
            ("a%20b", "a b"),
            (long.as_str(), long.as_str()),
        ] {
            assert_eq!(decode_segment(segment).as_deref(), Ok(id));
        }
        let too_long = "a".repeat(CONTACT_ID_MAX_BYTES + 1);
        for segment in [
            "", ".", "..", "a/b", "a?b", "a#b", "a+b", "a b", "a%", "a%2", "a%zz", "%FF", "%00", "a%0Ab",
            &too_long,
        ] {
            assert!(decode_segment(segment).is_err(), "{segment}");
        }
    }
}
