//! Signatures over a body: Standard Webhooks 1.0.0 and `X-Hub-Signature-256`. Shared by who checks them and who makes
//! them. Pure.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac::{self, Key};

/// What a signature is made of: `id.timestamp.body`.
#[must_use]
pub fn signed_content(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(id.len() + timestamp.len() + 2 + body.len());
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        content.extend_from_slice(part);
    }
    content
}

/// The value of `webhook-signature` for a message: `v1,` and the HMAC-SHA256 in base64. `timestamp` is the value of
/// `webhook-timestamp`, Unix seconds.
#[must_use]
pub fn sign(key: &Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let tag = hmac::sign(key, &signed_content(id, timestamp, body));
    format!("v1,{}", BASE64.encode(tag))
}

/// The value of `X-Hub-Signature-256`: `sha256=` and the HMAC-SHA256 of the body in lower-case hexadecimal digits.
#[must_use]
pub fn hub_signature(key: &Key, body: &[u8]) -> String {
    let mut value = "sha256=".to_owned();
    for byte in hmac::sign(key, body).as_ref() {
        let _ = write!(value, "{byte:02x}");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_vector_of_github() {
        let key = Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        assert_eq!(
            hub_signature(&key, b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }

    #[test]
    fn the_vectors_of_the_specification() {
        let vectors = [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "1614265330",
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                "1649367553",
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ];
        for (secret, id, timestamp, body, signature) in vectors {
            let key = Secret::new(secret).standard_webhooks_key().unwrap();
            let key = Key::new(hmac::HMAC_SHA256, &key);
            assert_eq!(sign(&key, id, timestamp, body.as_bytes()), signature);
        }
    }
}
