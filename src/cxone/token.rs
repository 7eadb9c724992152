//! The token: behind a mutex, fetched by one worker at a time while the others wait for the same one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::http::{Http, Reply};
use crate::clock;
use crate::config::{ClientAuth, CxoneConfig, Grant};
use crate::metrics::Metrics;

/// Lifetime of a token whose `expires_in` is absent or unreadable: tenants give about an hour.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// Shortest lifetime believed, so that a server that says 0 is not asked before every call.
const LIFETIME_MIN: Duration = Duration::from_secs(2);
/// Longest lifetime believed.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// After a refresh that failed while the old token was still good.
const REFRESH_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What `application/x-www-form-urlencoded` leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// Why there is no token.
#[derive(Debug, Clone)]
pub(super) enum TokenError {
    /// The endpoint refused our credentials.
    Refused(String),
    /// The endpoint told us to slow down.
    Throttled(Option<Duration>, String),
    /// No usable answer.
    Failed(String),
}

impl TokenError {
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Refused(detail) | Self::Throttled(_, detail) | Self::Failed(detail) => detail,
        }
    }
}

/// The token cache.
pub(super) struct Tokens {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

struct State {
    config: CxoneConfig,
    current: Option<Token>,
    /// The last failed fetch: whoever waited for it fails with it, instead of asking again one after another.
    failed: Option<(Instant, TokenError)>,
}

struct Token {
    value: Arc<str>,
    refresh_at: Instant,
    refresh_ms: i64,
    expires_at: Instant,
}

impl Tokens {
    pub(super) fn new(config: &CxoneConfig, metrics: Arc<Metrics>) -> Self {
        let state = State { config: config.clone(), current: None, failed: None };
        Self { state: Mutex::new(state), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn replace_credentials(&self, config: &CxoneConfig) {
        let mut state = self.lock();
        let CxoneConfig { client_id, client_secret, grant, .. } = config.clone();
        state.config = CxoneConfig { client_id, client_secret, grant, ..state.config.clone() };
        state.current = None;
        state.failed = None;
    }

    /// `None` also while a token is being fetched: who asks must not wait for that.
    pub(super) fn refresh_ms(&self) -> Option<i64> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        state.current.as_ref().map(|token| token.refresh_ms)
    }

    /// The token to use now, fetched if need be.
    pub(super) fn get(&self, http: &Http) -> Result<Arc<str>, TokenError> {
        let asked = Instant::now();
        let mut state = self.lock();
        if let Some(token) = state.current.as_ref().filter(|token| Instant::now() < token.refresh_at) {
            return Ok(Arc::clone(&token.value));
        }
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        match self.fetch(&state.config, http) {
            Ok(token) => {
                let value = Arc::clone(&token.value);
                state.current = Some(token);
                state.failed = None;
                Ok(value)
            }
            Err(error) => {
                let now = Instant::now();
                // The margin is there for this: the old one is good for a while yet.
                if let Some(token) = state.current.as_mut().filter(|token| now < token.expires_at) {
                    log::warn!(
                        "a new token cannot be had, the old one is used meanwhile: {}",
                        error.detail()
                    );
                    token.refresh_at = (now + REFRESH_AGAIN_AFTER).min(token.expires_at);
                    return Ok(Arc::clone(&token.value));
                }
                state.current = None;
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Gives up a token the API refused, if it is still the current one.
    pub(super) fn discard(&self, refused: &Arc<str>) {
        let mut state = self.lock();
        if state.current.as_ref().is_some_and(|token| Arc::ptr_eq(&token.value, refused)) {
            state.current = None;
        }
    }

    fn fetch(&self, config: &CxoneConfig, http: &Http) -> Result<Token, TokenError> {
        let (basic, form) = request(config);
        let reply = http.form(&config.token_url, basic, &form, config.token_timeout);
        let result = reply.map_err(TokenError::Failed).and_then(|reply| read(&reply, config.refresh_margin));
        match &result {
            Ok(_) => self.metrics.token_requests_ok.inc(),
            Err(TokenError::Refused(_)) => self.metrics.token_requests_refused.inc(),
            Err(_) => self.metrics.token_requests_failed.inc(),
        }
        result.map_err(|error| error.at(&config.token_url))
    }
}

impl TokenError {
    fn at(self, url: &str) -> Self {
        let say = |detail: String| format!("token endpoint {url}: {detail}");
        match self {
            Self::Refused(detail) => Self::Refused(say(detail)),
            Self::Throttled(wait, detail) => Self::Throttled(wait, say(detail)),
            Self::Failed(detail) => Self::Failed(say(detail)),
        }
    }
}

/// The `Authorization` header, if credentials go there, and the form (RFC 6749 sections 2.3.1, 4.3, 4.4).
fn request(config: &CxoneConfig) -> (Option<String>, String) {
    let encode = |value: &str| utf8_percent_encode(value, FORM).to_string();
    let (id, secret) = (config.client_id.expose(), config.client_secret.expose());
    let mut form = match &config.grant {
        Grant::ClientCredentials => "grant_type=client_credentials".to_owned(),
        Grant::Password { username, password } => format!(
            "grant_type=password&username={}&password={}",
            encode(username.expose()),
            encode(password.expose())
        ),
    };
    let basic = match config.client_auth {
        ClientAuth::Basic => {
            Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(id), encode(secret)))))
        }
        ClientAuth::Body => {
            form += &["&client_id=", &encode(id), "&client_secret=", &encode(secret)].concat();
            None
        }
    };
    if let Some(scope) = &config.scope {
        form += &["&scope=", &encode(scope)].concat();
    }
    (basic, form)
}

fn read(reply: &Reply, margin: Duration) -> Result<Token, TokenError> {
    let said = || format!("answered {}: {}", reply.status, reply.body);
    match reply.status {
        200..=299 => {}
        429 => return Err(TokenError::Throttled(reply.retry_after, said())),
        408 | 425 | 500.. => return Err(TokenError::Failed(said())),
        _ => return Err(TokenError::Refused(said())),
    }
    let unreadable =
        |why: &str| TokenError::Failed(format!("answered {} without a usable token: {why}", reply.status));
    let answer: Value = serde_json::from_slice(&reply.raw).map_err(|_| unreadable("not JSON"))?;
    let value = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
    if value.is_empty() || value.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(unreadable("access_token is missing or has characters no header can carry"));
    }
    let lifetime = lifetime(answer.get("expires_in"));
    let used_for = lifetime.saturating_sub(margin.min(lifetime / 2));
    Ok(Token {
        value: Arc::from(value),
        refresh_at: Instant::now() + used_for,
        refresh_ms: clock::now_ms() + clock::millis(used_for),
        expires_at: Instant::now() + lifetime,
    })
}

/// `expires_in` in seconds, tolerated as a number or a string.
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let lifetime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    lifetime.unwrap_or(LIFETIME_DEFAULT).clamp(LIFETIME_MIN, LIFETIME_MAX)
}
