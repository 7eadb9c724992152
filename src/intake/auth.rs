//! How a sender proves itself (contract section 5). Every comparison takes the same time whatever is compared.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac::{self, HMAC_SHA256, Key};
use ring::rand::SystemRandom;

use crate::config::{Secret, WebhookAuth};
use crate::error::Error;
use crate::http::Head;
use crate::metrics::AuthFailure;

/// How far `webhook-timestamp` may be from our clock, either way (Standard Webhooks 1.0.0).
const TIMESTAMP_TOLERANCE_S: u64 = 300;
/// Signatures looked at in one `webhook-signature`; more would be a way to have us compute.
const SIGNATURES_MAX: usize = 16;
/// What a Standard Webhooks secret starts with.
const SECRET_PREFIX: &str = "whsec_";

/// The check of `webhook.auth` with its secrets; any of them is accepted.
pub(super) enum Auth {
    /// Everybody is let in.
    None,
    /// `Authorization: Bearer SECRET`. What is compared are tags under a key of this process, so that neither
    /// content nor length of a secret shows in the time it takes.
    Bearer { key: Key, tags: Vec<hmac::Tag> },
    /// Standard Webhooks 1.0.0.
    StandardWebhooks(Vec<Key>),
    /// `X-Hub-Signature-256`
    HubSignature(Vec<Key>),
}

impl Auth {
    /// The check for a kind of authentication and its secrets.
    ///
    /// # Errors
    /// A secret is missing or, for `standard-webhooks`, is not base64. The message does not hold it.
    pub(super) fn new(kind: WebhookAuth, secrets: &[Secret]) -> Result<Self, Error> {
        let secrets: Vec<&Secret> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
        if kind != WebhookAuth::None && secrets.is_empty() {
            return Err(Error::config(
                "webhook.auth needs a secret: set webhook.secret or webhook.secret_file",
            ));
        }
        let bytes = |secret: &&Secret| Key::new(HMAC_SHA256, secret.expose().as_bytes());
        Ok(match kind {
            WebhookAuth::None => Self::None,
            WebhookAuth::Bearer => {
                let key = Key::generate(HMAC_SHA256, &SystemRandom::new())
                    .map_err(|_| Error::failed("the system gives no random numbers"))?;
                let tags = secrets.iter().map(|s| hmac::sign(&key, s.expose().as_bytes())).collect();
                Self::Bearer { key, tags }
            }
            WebhookAuth::HmacSha256 => Self::HubSignature(secrets.iter().map(bytes).collect()),
            WebhookAuth::StandardWebhooks => {
                let keys = secrets.iter().enumerate().map(|(index, secret)| decode(index, secret));
                Self::StandardWebhooks(keys.collect::<Result<_, _>>()?)
            }
        })
    }

    /// What can be said before the body is read. `now_s` is Unix time.
    ///
    /// # Errors
    /// Why the sender is not authenticated.
    pub(super) fn check_head(&self, head: Head<'_>, now_s: u64) -> Result<(), AuthFailure> {
        match self {
            Self::None => Ok(()),
            Self::Bearer { key, tags } => {
                let token = bearer_token(only(head, "Authorization")?)?;
                any_or_mismatch(tags.iter().any(|tag| hmac::verify(key, token, tag.as_ref()).is_ok()))
            }
            Self::StandardWebhooks(_) => Signed::of(head, now_s).map(drop),
            Self::HubSignature(_) => hub_signature(only(head, "X-Hub-Signature-256")?).map(drop),
        }
    }

    /// What the body is needed for.
    ///
    /// # Errors
    /// Why the sender is not authenticated.
    pub(super) fn check_body(&self, head: Head<'_>, body: &[u8], now_s: u64) -> Result<(), AuthFailure> {
        match self {
            Self::None | Self::Bearer { .. } => Ok(()),
            Self::StandardWebhooks(keys) => Signed::of(head, now_s)?.verify(keys, body),
            Self::HubSignature(keys) => {
                let signature = hub_signature(only(head, "X-Hub-Signature-256")?)?;
                any_or_mismatch(keys.iter().any(|key| hmac::verify(key, body, &signature).is_ok()))
            }
        }
    }
}

fn any_or_mismatch(any: bool) -> Result<(), AuthFailure> {
    if any { Ok(()) } else { Err(AuthFailure::Mismatch) }
}

/// The value of a header that must be there once.
fn only<'a>(head: Head<'a>, name: &'static str) -> Result<&'a str, AuthFailure> {
    let mut values = head.all(name);
    match (values.next(), values.next()) {
        (None, _) => Err(AuthFailure::Missing),
        (Some(value), None) => Ok(value),
        (Some(_), Some(_)) => Err(AuthFailure::Malformed),
    }
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer_token(value: &str) -> Result<&[u8], AuthFailure> {
    let (scheme, token) = value.split_once(' ').ok_or(AuthFailure::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthFailure::Malformed);
    }
    Ok(token.trim().as_bytes())
}

/// `sha256=` and 64 lower-case hexadecimal digits.
fn hub_signature(value: &str) -> Result<[u8; 32], AuthFailure> {
    let hex = value.strip_prefix("sha256=").ok_or(AuthFailure::Malformed)?.as_bytes();
    let digit = |b: u8| match b {
        b'0'..=b'9' => Ok(b - b'0'),
        b'a'..=b'f' => Ok(b - b'a' + 10),
        _ => Err(AuthFailure::Malformed),
    };
    let mut bytes = [0; 32];
    if hex.len() != 2 * bytes.len() {
        return Err(AuthFailure::Malformed);
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// The three headers of Standard Webhooks.
struct Signed<'a> {
    id: &'a str,
    timestamp: &'a str,
    signatures: Vec<Vec<u8>>,
}

impl<'a> Signed<'a> {
    fn of(head: Head<'a>, now_s: u64) -> Result<Self, AuthFailure> {
        let (id, timestamp) = (only(head, "webhook-id")?, only(head, "webhook-timestamp")?);
        let signature = only(head, "webhook-signature")?;
        if id.is_empty() || timestamp.is_empty() || !timestamp.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AuthFailure::Malformed);
        }
        let at_s: u64 = timestamp.parse().map_err(|_| AuthFailure::Malformed)?;
        if at_s.abs_diff(now_s) > TIMESTAMP_TOLERANCE_S {
            return Err(AuthFailure::Stale);
        }
        // Versions we do not know are skipped: a sender may sign in several ways.
        let v1 = signature.split(' ').take(SIGNATURES_MAX).filter_map(|s| s.strip_prefix("v1,"));
        let signatures: Vec<_> = v1.filter_map(|s| BASE64.decode(s).ok()).collect();
        if signatures.is_empty() {
            return Err(AuthFailure::Malformed);
        }
        Ok(Self { id, timestamp, signatures })
    }

    fn verify(&self, keys: &[Key], body: &[u8]) -> Result<(), AuthFailure> {
        let mut content = Vec::with_capacity(self.id.len() + self.timestamp.len() + 2 + body.len());
        for part in [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", body] {
            content.extend_from_slice(part);
        }
        let verifies = |key: &Key| self.signatures.iter().any(|s| hmac::verify(key, &content, s).is_ok());
        any_or_mismatch(keys.iter().any(verifies))
    }
}

/// The key of a Standard Webhooks secret: base64 with or without its prefix.
fn decode(index: usize, secret: &Secret) -> Result<Key, Error> {
    let text = secret.expose().trim();
    let bytes = BASE64.decode(text.strip_prefix(SECRET_PREFIX).unwrap_or(text));
    let bytes = bytes.ok().filter(|bytes| !bytes.is_empty());
    bytes.map(|bytes| Key::new(HMAC_SHA256, &bytes)).ok_or_else(|| {
        let which = index + 1;
        Error::config(format!("webhook.secret: secret {which} is not {SECRET_PREFIX} and base64"))
    })
}

#[cfg(test)]
mod tests {
    use tiny_http::{Header, Request, TestRequest};

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| Header::from_bytes(*name, *value).unwrap());
        headers.fold(TestRequest::new(), TestRequest::with_header).into()
    }

    fn check(auth: &Auth, headers: &[(&str, &str)], body: &str, now_s: u64) -> Result<(), AuthFailure> {
        let request = request(headers);
        let head = Head::new(&request);
        auth.check_head(head, now_s)?;
        auth.check_body(head, body.as_bytes(), now_s)
    }

    fn auth(kind: WebhookAuth, secrets: &[&str]) -> Auth {
        let secrets: Vec<_> = secrets.iter().map(|s| Secret::new(*s)).collect();
        Auth::new(kind, &secrets).unwrap()
    }

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT_S: u64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn standard_webhooks_vectors() {
        let vectors = [
            (SECRET, ID, AT_S, BODY, SIGNATURE),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ];
        for (secret, id, at_s, body, signature) in vectors {
            let auth = auth(WebhookAuth::StandardWebhooks, &["whsec_b3RoZXI=", secret]);
            let at = at_s.to_string();
            let headers = [("webhook-id", id), ("webhook-timestamp", &at), ("webhook-signature", signature)];
            assert_eq!(check(&auth, &headers, body, at_s), Ok(()));
            assert_eq!(check(&auth, &headers, &format!("{body} "), at_s), Err(AuthFailure::Mismatch));
        }
    }

    #[test]
    fn standard_webhooks_failures_by_kind() {
        let auth = auth(WebhookAuth::StandardWebhooks, &[SECRET]);
        let at = AT_S.to_string();
        let with = |id: &str, at: &str, signature: &str, now_s| {
            let headers = [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)];
            check(&auth, &headers, BODY, now_s)
        };
        let many = format!("v2,x v1,!! v1,YWJj {SIGNATURE}");
        assert_eq!(with(ID, &at, &many, AT_S), Ok(()));
        assert_eq!(with(ID, &at, SIGNATURE, AT_S + 300), Ok(()));
        assert_eq!(with(ID, &at, SIGNATURE, AT_S - 300), Ok(()));
        assert_eq!(with(ID, &at, SIGNATURE, AT_S + 301), Err(AuthFailure::Stale));
        assert_eq!(with(ID, &at, SIGNATURE, AT_S - 301), Err(AuthFailure::Stale));
        assert_eq!(with("msg_other", &at, SIGNATURE, AT_S), Err(AuthFailure::Mismatch));
        assert_eq!(with(ID, &(AT_S + 1).to_string(), SIGNATURE, AT_S), Err(AuthFailure::Mismatch));
        assert_eq!(with(ID, "yesterday", SIGNATURE, AT_S), Err(AuthFailure::Malformed));
        assert_eq!(with(ID, "", SIGNATURE, AT_S), Err(AuthFailure::Malformed));
        assert_eq!(with("", &at, SIGNATURE, AT_S), Err(AuthFailure::Malformed));
        assert_eq!(with(ID, &at, "v2,AAAA", AT_S), Err(AuthFailure::Malformed));
        assert_eq!(with(ID, &at, "", AT_S), Err(AuthFailure::Malformed));
        assert_eq!(check(&auth, &[("webhook-id", ID)], BODY, AT_S), Err(AuthFailure::Missing));
        let twice = [
            ("webhook-id", ID),
            ("webhook-id", ID),
            ("webhook-timestamp", &at),
            ("webhook-signature", SIGNATURE),
        ];
        assert_eq!(check(&auth, &twice, BODY, AT_S), Err(AuthFailure::Malformed));
    }

    #[test]
    fn hub_signature_vector_and_failures() {
        let auth = auth(WebhookAuth::HmacSha256, &["old", "It's a Secret to Everybody"]);
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let with = |value: &str| check(&auth, &[("X-Hub-Signature-256", value)], "Hello, World!", 0);
        assert_eq!(with(good), Ok(()));
        assert_eq!(with(&good.replace("757107", "757108")), Err(AuthFailure::Mismatch));
        assert_eq!(with(&good.to_uppercase()), Err(AuthFailure::Malformed));
        assert_eq!(with(&good[..70]), Err(AuthFailure::Malformed));
        assert_eq!(with("sha1=757107ea"), Err(AuthFailure::Malformed));
        assert_eq!(check(&auth, &[], "Hello, World!", 0), Err(AuthFailure::Missing));
    }

    #[test]
    fn bearer_takes_any_of_its_secrets() {
        let auth = auth(WebhookAuth::Bearer, &["one", "two"]);
        let with = |value| check(&auth, &[("Authorization", value)], "", 0);
        for good in ["Bearer one", "Bearer two", "bearer one", "BEARER  two "] {
            assert_eq!(with(good), Ok(()), "{good}");
        }
        for wrong in ["Bearer three", "Bearer ", "Bearer one two", "Bearer onetwo", "Bearer On"] {
            assert_eq!(with(wrong), Err(AuthFailure::Mismatch), "{wrong}");
        }
        assert_eq!(with("Basic b25lOg=="), Err(AuthFailure::Malformed));
        assert_eq!(with("one"), Err(AuthFailure::Malformed));
        assert_eq!(check(&auth, &[], "", 0), Err(AuthFailure::Missing));
    }

    #[test]
    fn secrets_that_are_none_are_refused_without_being_shown() {
        for kind in [WebhookAuth::Bearer, WebhookAuth::HmacSha256, WebhookAuth::StandardWebhooks] {
            assert!(Auth::new(kind, &[Secret::new("")]).is_err_and(|error| error.is_config()));
        }
        let error =
            Auth::new(WebhookAuth::StandardWebhooks, &[Secret::new("whsec_not base64")]).err().unwrap();
        assert!(error.is_config() && !error.to_string().contains("not base64\""), "{error}");
    }
}
