//! `dispod sandbox`: a stand-in CXone for users' own tests.

use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::text::quote;
use crate::config::Secret;
use crate::error::Error;
use crate::sandbox::{Behaviour, LimitStyle, RateLimit, RetryAfter, Sandbox, SandboxOptions, parse};

/// A stand-in CXone (token and Contact API) for tests and trials.
///
/// It is strict about what it accepts and shows what it holds at /_contacts and what it has seen at /_stats.
/// POST /_revoke makes every token worthless; POST /_script and /_behaviour change how it answers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// The client it knows.
    #[arg(long, value_name = "ID", default_value = "sandbox")]
    pub client_id: String,
    /// That client's secret.
    #[arg(long, value_name = "SECRET", default_value = "sandbox-secret")]
    pub client_secret: String,
    /// How long an update takes: 20ms, or evenly 0ms-50ms.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse::latency)]
    pub latency: RangeInclusive<Duration>,
    /// Most updates in a time: 200/s, 17/m, 1000/h. Beyond it: 429.
    #[arg(long, value_name = "RATE")]
    pub rate_limit: Option<RateLimit>,
    /// Updates accepted at once before the rate limit bites; by default those of one period.
    #[arg(long, value_name = "N", requires = "rate_limit")]
    pub burst: Option<u32>,
    /// Retry-After of a 429 in seconds, or none.
    #[arg(long, value_name = "SECS", default_value = "1")]
    pub retry_after: RetryAfter,
    /// Share of the updates answered 503, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub error_rate: f64,
    /// How long a token is good for.
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = parse::duration)]
    pub token_lifetime: Duration,
    /// Makes the random choices repeatable.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Args {
    fn options(&self) -> SandboxOptions {
        let rate_limit = self.rate_limit.map(|limit| RateLimit {
            style: LimitStyle::TokenBucket { burst: self.burst.unwrap_or(limit.calls) },
            retry_after: self.retry_after,
            ..limit
        });
        SandboxOptions {
            listen: self.listen,
            client_id: self.client_id.clone(),
            client_secret: Secret::new(self.client_secret.as_str()),
            seed: self.seed,
            behaviour: Behaviour {
                latency: self.latency.clone(),
                rate_limit,
                error_rate: self.error_rate,
                token_lifetime: self.token_lifetime,
                ..Behaviour::default()
            },
            ..SandboxOptions::default()
        }
    }
}

/// Serves until SIGINT or SIGTERM; prints the environment a daemon needs to use it.
///
/// # Errors
/// An option out of range, or an address that cannot be bound.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::failed(format!("signals: {error}")))?;
    let sandbox = Sandbox::start(args.options())?;
    print(&sandbox, args).map_err(|error| Error::failed(format!("standard output: {error}")))?;
    // Ends only when the signals' handle is closed, which nobody does.
    signals.forever().next();
    sandbox.stop();
    Ok(())
}

fn print(sandbox: &Sandbox, args: &Args) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "export DISPOD_CXONE_ENVIRONMENT=sandbox.invalid")?;
    writeln!(out, "export DISPOD_CXONE_BASE_URL={}", sandbox.base_url())?;
    writeln!(out, "export DISPOD_CXONE_TOKEN_URL={}", sandbox.token_url())?;
    writeln!(out, "export DISPOD_CXONE_CLIENT_ID={}", quote(&args.client_id))?;
    writeln!(out, "export DISPOD_CXONE_CLIENT_SECRET={}", quote(&args.client_secret))?;
    out.flush()
}
