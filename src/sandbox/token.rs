//! The token endpoint: one strict form (RFC 6749 sections 4.3, 4.4; contract section 7).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use percent_encoding::percent_decode_str;
use tiny_http::Method;

use super::answer::{Buffers, Call, Fate, shorten};
use super::options::{Behaviour, ExpiresIn, Reply, RetryAfter, SandboxOptions};
use super::server::Shared;

/// Where tokens are issued.
pub(super) const PATH: &str = "/oauth/token";
/// Most tokens remembered; beyond it expired ones are forgotten, then all.
pub(super) const TOKENS_MAX: usize = 100_000;

const FIELDS: [&str; 6] = ["grant_type", "client_id", "client_secret", "scope", "username", "password"];

/// The tokens issued and not revoked, with the end of each.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<String, Instant>);

/// What a token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Expired,
    Unknown,
}

impl Standing {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Good => "the token is good",
            Self::Expired => "the token has expired",
            Self::Unknown => "the token is unknown or revoked",
        }
    }
}

impl Tokens {
    pub(super) fn issue(&mut self, token: String, lifetime: Duration, now: Instant) {
        if self.0.len() >= TOKENS_MAX {
            self.0.retain(|_, end| *end > now);
        }
        if self.0.len() >= TOKENS_MAX {
            self.0.clear();
        }
        self.0.insert(token, now + lifetime);
    }

    pub(super) fn standing(&self, authorization: &str, now: Instant) -> Standing {
        match authorization.strip_prefix("Bearer ").and_then(|token| self.0.get(token)) {
            Some(end) if now < *end => Standing::Good,
            Some(_) => Standing::Expired,
            None => Standing::Unknown,
        }
    }

    pub(super) fn revoke(&mut self) {
        self.0.clear();
    }
}

/// Why no token is issued.
enum Refusal {
    /// The request differs from the contract.
    Violation(String),
    /// It is well formed, and its credentials are wrong.
    Credentials(&'static str),
}

/// Answers a request to [`PATH`].
pub(super) fn answer(shared: &Shared, call: &Call<'_>, out: &mut Buffers) -> Fate {
    let behaviour = shared.behaviour();
    let (fate, status) = respond(shared, &behaviour, call, out);
    shared.change(|ledger| ledger.token_answered(status));
    fate
}

fn respond(
    shared: &Shared,
    behaviour: &Behaviour,
    call: &Call<'_>,
    out: &mut Buffers,
) -> (Fate, Option<u16>) {
    let answered = |status| (Fate::Answered, Some(status));
    if *call.method != Method::Post {
        out.error(405, "Allow: POST\r\n", "invalid_request", "tokens are issued by POST");
        return answered(405);
    }
    match behaviour.token_outage {
        Reply::Normal | Reply::Cut => {}
        Reply::Status(status) => {
            out.bare(status, RetryAfter::Absent);
            return answered(status);
        }
        Reply::RetryLater(status, retry_after) => {
            out.bare(status, retry_after);
            return answered(status);
        }
        Reply::Hang => return (Fate::Hang, None),
        Reply::Reset => return (Fate::Reset, None),
    }
    match examine(&shared.options, call) {
        Ok(()) => {}
        Err(Refusal::Violation(why)) => {
            out.error(400, "", "invalid_request", &why);
            shared.change(|ledger| ledger.violation(format!("token request: {why}")));
            return answered(400);
        }
        Err(Refusal::Credentials(why)) => {
            out.error(401, "WWW-Authenticate: Basic realm=\"sandbox\"\r\n", "invalid_client", why);
            return answered(401);
        }
    }
    success(&shared.issue(behaviour.token_lifetime), behaviour, out);
    if behaviour.token_outage == Reply::Cut { (Fate::Cut, None) } else { answered(200) }
}

fn success(token: &str, behaviour: &Behaviour, out: &mut Buffers) {
    use std::io::Write as _;
    let lifetime_s = behaviour.token_lifetime.as_secs();
    out.body.clear();
    // Writing to a Vec cannot fail.
    let _ = write!(out.body, "{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\"");
    let _ = match behaviour.expires_in {
        ExpiresIn::Number => write!(out.body, ",\"expires_in\":{lifetime_s}}}"),
        ExpiresIn::Text => write!(out.body, ",\"expires_in\":\"{lifetime_s}\"}}"),
        ExpiresIn::Absent => write!(out.body, "}}"),
    };
    // RFC 6749 section 5.1.
    out.finish(200, "Cache-Control: no-store\r\n");
}

/// Checks form and credentials.
fn examine(options: &SandboxOptions, call: &Call<'_>) -> Result<(), Refusal> {
    let form = form(call).map_err(Refusal::Violation)?;
    let violation = |why: &str| Err(Refusal::Violation(why.to_owned()));
    let field = |name: &str| form.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let basic = call.headers.iter().any(|header| header.field.equiv("Authorization"));
    let (id, secret) = match (basic, field("client_id"), field("client_secret")) {
        (true, None, None) => basic_credentials(call).map_err(Refusal::Violation)?,
        (true, ..) => return violation("client credentials both in the header and in the form"),
        (false, Some(id), Some(secret)) => (id.to_owned(), secret.to_owned()),
        (false, ..) => return violation("no client_id and client_secret"),
    };
    if field("scope").is_some_and(str::is_empty) {
        return violation("an empty scope");
    }
    let user = match (field("grant_type"), field("username"), field("password")) {
        (Some("client_credentials"), None, None) => None,
        (Some("password"), Some(name), Some(password)) => Some((name, password)),
        (Some("client_credentials" | "password"), ..) => {
            return violation("username and password belong to the grant `password`, both of them");
        }
        (Some(other), ..) => return violation(&format!("grant_type is `{}`", shorten(other))),
        (None, ..) => return violation("no grant_type"),
    };
    if id != options.client_id || secret != options.client_secret.expose() {
        return Err(Refusal::Credentials("client_id or client_secret is wrong"));
    }
    match (user, &options.user) {
        (None, _) => Ok(()),
        (Some((name, password)), Some(known)) if name == known.0 && password == known.1.expose() => Ok(()),
        (Some(_), _) => Err(Refusal::Credentials("username or password is wrong")),
    }
}

/// The fields of the form, each known, none twice.
fn form(call: &Call<'_>) -> Result<Vec<(&'static str, String)>, String> {
    call.require("Content-Type", "application/x-www-form-urlencoded")?;
    let body = std::str::from_utf8(call.body).map_err(|_| "the form is not UTF-8".to_owned())?;
    let mut fields: Vec<(&'static str, String)> = Vec::new();
    for pair in body.split('&') {
        let (name, value) = pair.split_once('=').ok_or("a form field without `=`, or an empty form")?;
        let known = FIELDS.into_iter().find(|known| *known == name);
        let known = known.ok_or_else(|| format!("unknown form field `{}`", shorten(name)))?;
        if fields.iter().any(|(before, _)| *before == known) {
            return Err(format!("form field {known} twice"));
        }
        fields.push((known, decode(value).map_err(|why| format!("form field {known}: {why}"))?));
    }
    Ok(fields)
}

/// The two halves of `Authorization: Basic`, each form-encoded before base64 (RFC 6749 section 2.3.1).
fn basic_credentials(call: &Call<'_>) -> Result<(String, String), String> {
    let wrong = || "Authorization is not `Basic` and the base64 of `ID:SECRET`".to_owned();
    let encoded = call.header("Authorization")?.strip_prefix("Basic ").ok_or_else(wrong)?;
    let pair = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| wrong())?;
    let pair = String::from_utf8(pair).map_err(|_| wrong())?;
    let (id, secret) = pair.split_once(':').ok_or_else(wrong)?;
    Ok((decode(id)?, decode(secret)?))
}

/// Decodes one value of `application/x-www-form-urlencoded`. The reason for a refusal never holds the value.
fn decode(value: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~*+".contains(&byte);
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let well = match byte {
            b'%' => [bytes.next(), bytes.next()].iter().all(|d| d.is_some_and(|d| d.is_ascii_hexdigit())),
            byte => plain(byte),
        };
        if !well {
            return Err("not percent-encoded".to_owned());
        }
    }
    let value = value.replace('+', " ");
    let decoded = percent_decode_str(&value).decode_utf8().map_err(|_| "not UTF-8".to_owned())?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_strictly() {
        assert_eq!(decode("p%26q%2Br%3As%2541%3D+x").as_deref(), Ok("p&q+r:s%41= x"));
        for value in ["a b", "a=b", "a%", "a%4", "a%zz", "é", "%FF", "a/b", "a:b"] {
            assert!(decode(value).is_err(), "{value}");
        }
    }

    #[test]
    fn tokens_are_bounded() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        for serial in 0..=TOKENS_MAX {
            tokens.issue(serial.to_string(), Duration::from_secs(1), now);
        }
        assert_eq!(tokens.0.len(), 1);
        assert_eq!(tokens.standing(&format!("Bearer {TOKENS_MAX}"), now), Standing::Good);
        assert_eq!(tokens.standing("Bearer 0", now), Standing::Unknown);
        assert_eq!(
            tokens.standing(&format!("Bearer {TOKENS_MAX}"), now + Duration::from_secs(1)),
            Standing::Expired
        );
    }
}
