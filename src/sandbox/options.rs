//! What a sandbox can be told: who may log in, and how it behaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Secret;
use crate::error::Error;

/// Most requests a sandbox works on at once.
pub const THREADS_MAX: usize = 1024;
/// Longest latency; longer is what [`Reply::Hang`] is for.
pub const LATENCY_MAX: Duration = Duration::from_secs(600);

/// How a sandbox starts. The default listens on a free loopback port, answers at once and never fails.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one client it knows.
    pub client_id: String,
    /// That client's secret, accepted in the form or as `Authorization: Basic`.
    pub client_secret: Secret,
    /// User name and password for the `password` grant; `None`: that grant is refused.
    pub user: Option<(String, Secret)>,
    /// How many requests it works on at once, 1 to [`THREADS_MAX`]; with latency, its throughput.
    pub threads: usize,
    /// Makes every random choice repeatable; `None`: a different run each time.
    pub seed: Option<u64>,
    /// How it behaves at first; changed at run time by [`super::Sandbox::set_behaviour`].
    pub behaviour: Behaviour,
}

/// How the sandbox behaves; may be changed while it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// How long an update takes, drawn evenly from the range; it is committed at the end of that time.
    pub latency: RangeInclusive<Duration>,
    /// How many updates it accepts; `None`: any.
    pub rate_limit: Option<RateLimit>,
    /// Share of the updates answered 503 after the latency, nothing changed, 0 to 1.
    pub error_rate: f64,
    /// Random faults of other kinds.
    pub faults: Faults,
    /// What every update gets instead of being worked on; [`Reply::Normal`]: no outage.
    pub outage: Reply,
    /// The same for token requests.
    pub token_outage: Reply,
    /// How long a token issued from now on is good for.
    pub token_lifetime: Duration,
    /// How the token's answer says so.
    pub expires_in: ExpiresIn,
}

/// A limit on the rate of updates; beyond it the answer is 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// So many updates...
    pub calls: u32,
    /// ...in this time.
    pub per: Duration,
    /// How they are counted.
    pub style: LimitStyle,
    /// What a 429 says about when to come back.
    pub retry_after: RetryAfter,
}

/// How a rate is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitStyle {
    /// A bucket that holds `burst` updates and refills evenly.
    TokenBucket {
        /// Size of the bucket.
        burst: u32,
    },
    /// A count that starts anew at the end of each period, as many gateways do it.
    FixedWindow,
}

/// The `Retry-After` header of an answer (RFC 9110 section 10.2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RetryAfter {
    /// There is none.
    #[default]
    Absent,
    /// `Retry-After: 5`
    Seconds(u32),
    /// The HTTP date so many seconds from now, rounded up to a whole second.
    Date(u32),
}

/// Probabilities of random faults, each 0 to 1, together at most 1 with [`Behaviour::error_rate`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// [`Reply::Hang`]
    pub hang: f64,
    /// [`Reply::Cut`]
    pub cut: f64,
    /// [`Reply::Reset`]
    pub reset: f64,
    /// Answered 500, nothing changed.
    pub error: f64,
    /// Answered 429 without `Retry-After`, nothing changed.
    pub throttle: f64,
}

/// One way to answer a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reply {
    /// As if nobody had asked for anything else.
    #[default]
    Normal,
    /// This status, nothing changed.
    Status(u16),
    /// This status with a `Retry-After`, nothing changed.
    RetryLater(u16, RetryAfter),
    /// Never an answer; nothing changed.
    Hang,
    /// The work is done, half the answer is sent, the connection is closed.
    Cut,
    /// The connection is reset without a byte; nothing changed.
    Reset,
}

/// How `expires_in` is rendered (RFC 6749 section 5.1 makes it a recommended number; servers differ).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExpiresIn {
    /// `"expires_in":7200`
    #[default]
    Number,
    /// `"expires_in":"7200"`
    Text,
    /// No such member.
    Absent,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            client_id: "sandbox".to_owned(),
            client_secret: Secret::new("sandbox-secret"),
            user: None,
            threads: 64,
            seed: None,
            behaviour: Behaviour::default(),
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO..=Duration::ZERO,
            rate_limit: None,
            error_rate: 0.0,
            faults: Faults::default(),
            outage: Reply::Normal,
            token_outage: Reply::Normal,
            // The tutorial's token.
            token_lifetime: Duration::from_secs(7200),
            expires_in: ExpiresIn::Number,
        }
    }
}

impl RateLimit {
    /// A token bucket of `calls` a second that holds one second's worth, its 429 with `Retry-After: 1`.
    #[must_use]
    pub fn per_second(calls: u32) -> Self {
        Self {
            calls,
            per: Duration::from_secs(1),
            style: LimitStyle::TokenBucket { burst: calls },
            retry_after: RetryAfter::Seconds(1),
        }
    }
}

impl SandboxOptions {
    pub(super) fn check(&self) -> Result<(), Error> {
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(Error::usage(format!("threads is {}, 1 to {THREADS_MAX} are allowed", self.threads)));
        }
        self.behaviour.check()
    }
}

impl Behaviour {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.latency.is_empty() || *self.latency.end() > LATENCY_MAX {
            let (start, end) = (self.latency.start(), self.latency.end());
            return Err(Error::usage(format!(
                "latency is {start:?}-{end:?}, an ascending range up to {LATENCY_MAX:?} is allowed"
            )));
        }
        if let Some(limit) = self.rate_limit
            && (limit.calls == 0
                || limit.per.is_zero()
                || limit.style == LimitStyle::TokenBucket { burst: 0 })
        {
            return Err(Error::usage("a rate limit and its burst must be above 0"));
        }
        let faults = &self.faults;
        let rates = [self.error_rate, faults.hang, faults.cut, faults.reset, faults.error, faults.throttle];
        if rates.iter().any(|rate| !(0.0..=1.0).contains(rate)) || rates.iter().sum::<f64>() > 1.0 {
            return Err(Error::usage("error_rate and faults are shares from 0 to 1, at most 1 together"));
        }
        for reply in [self.outage, self.token_outage] {
            reply.check()?;
        }
        Ok(())
    }
}

impl Reply {
    pub(super) fn check(self) -> Result<(), Error> {
        match self {
            Self::Status(status) | Self::RetryLater(status, _) if !(200..=599).contains(&status) => {
                Err(Error::usage(format!("status {status} is not one of 200 to 599")))
            }
            _ => Ok(()),
        }
    }
}
