//! The configuration: every key of contract section 3, parsed and validated once.
//!
//! One table (`keys`) says what there is. The file and the environment are read into lists of settings (`sources`),
//! laid over the defaults one after the other (`draft`), secrets are fetched from where they are (`secrets`), and what
//! concerns several keys is checked last (`check`). Every mistake is reported, not just the first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::disposition::Mapping;
use crate::event::Severity;

mod check;
mod draft;
mod keys;
mod kind;
mod load;
mod names;
mod render;
mod rules;
mod secret;
mod secrets;
mod sources;
mod subscribers;
mod tables;
mod url;
mod values;

pub use load::Purpose;
pub use render::reference;
pub use secret::Secret;
pub(crate) use values::parse_duration;

/// Everything dispod can be told. [`Config::default`] is the contract's defaults; an embedder changes fields, or reads
/// TOML with [`Config::from_toml`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The listener that takes call results.
    pub webhook: WebhookConfig,
    /// The Contact API and its token endpoint.
    pub cxone: CxoneConfig,
    /// Workers, pacing, retries.
    pub delivery: DeliveryConfig,
    /// Where kept events live and for how long.
    pub store: StoreConfig,
    /// The operator's listener.
    pub admin: AdminConfig,
    /// What is logged and how.
    pub log: LogConfig,
    /// Disposition code to category to severity.
    pub mapping: Mapping,
    /// Durable subscribers.
    pub subscribers: Vec<SubscriberConfig>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `HOST:PORT`, resolved.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// `[webhook]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// `webhook.listen`
    pub listen: Listen,
    /// `webhook.socket_mode`: permissions of a Unix socket.
    pub socket_mode: u32,
    /// `webhook.path`
    pub path: String,
    /// `webhook.max_body`, in bytes.
    pub max_body_bytes: usize,
    /// `webhook.max_connections`
    pub max_connections: usize,
    /// `webhook.read_timeout`: from a request's first byte to its last.
    pub read_timeout: Duration,
    /// `webhook.write_timeout`
    pub write_timeout: Duration,
    /// `webhook.idle_timeout`
    pub idle_timeout: Duration,
    /// `webhook.auth`
    pub auth: WebhookAuth,
    /// `webhook.secret` or the lines of `webhook.secret_file`; any of them is accepted.
    pub secrets: Vec<Secret>,
}

/// How the sender proves itself (contract section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookAuth {
    /// Not at all.
    None,
    /// `Authorization: Bearer SECRET`
    Bearer,
    /// Standard Webhooks 1.0.0.
    StandardWebhooks,
    /// `X-Hub-Signature-256`
    HmacSha256,
}

/// `[cxone]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CxoneConfig {
    /// `cxone.environment`: the tenant's host name.
    pub environment: String,
    /// `cxone.base_url`, without a trailing slash.
    pub base_url: String,
    /// `cxone.token_url`
    pub token_url: String,
    /// `cxone.client_id`
    pub client_id: Secret,
    /// `cxone.client_secret`
    pub client_secret: Secret,
    /// `cxone.grant`
    pub grant: Grant,
    /// `cxone.client_auth`
    pub client_auth: ClientAuth,
    /// `cxone.scope`
    pub scope: Option<String>,
    /// `cxone.update_method`
    pub update_method: String,
    /// `cxone.update_path`, holding `{contactId}` once.
    pub update_path: String,
    /// `cxone.timeout`: one whole exchange with the Contact API.
    pub timeout: Duration,
    /// `cxone.token_timeout`: one whole exchange with the token endpoint.
    pub token_timeout: Duration,
    /// `cxone.refresh_margin`
    pub refresh_margin: Duration,
}

/// The OAuth 2.0 grant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Grant {
    /// RFC 6749 section 4.4.
    #[default]
    ClientCredentials,
    /// RFC 6749 section 4.3: a tenant's access key.
    Password {
        /// `cxone.username`
        username: Secret,
        /// `cxone.password`
        password: Secret,
    },
}

/// Where the client's credentials go (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Form fields.
    #[default]
    Body,
    /// An `Authorization: Basic` header.
    Basic,
}

/// `[delivery]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// `delivery.workers`
    pub workers: usize,
    /// `delivery.queue`: capacity of the worker channel, and how many events dispatch holds in memory.
    pub queue: usize,
    /// `delivery.rate_limit`, updates per second; 0: none of ours.
    pub rate_limit: u32,
    /// `delivery.backoff_base`
    pub backoff_base: Duration,
    /// `delivery.backoff_max`
    pub backoff_max: Duration,
    /// `delivery.max_age`
    pub max_age: Duration,
    /// `delivery.shutdown_grace`
    pub shutdown_grace: Duration,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `store.dir`
    pub dir: PathBuf,
    /// `store.max_size`, in bytes.
    pub max_size_bytes: u64,
    /// `store.audit_retention`
    pub audit_retention: Duration,
    /// `store.dedupe_window`
    pub dedupe_window: Duration,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// `admin.listen`; `None` is `off`.
    pub listen: Option<Listen>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `log.level`
    pub level: log::LevelFilter,
    /// `log.format`
    pub format: LogFormat,
    /// `log.mask_contacts`: contact ids appear as their last four characters only.
    pub mask_contacts: bool,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// One `[[subscribers]]` entry (contract section 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberConfig {
    /// Names its position in the store; unique.
    pub name: String,
    /// What it wants to hear of.
    pub severities: Vec<Severity>,
    /// Where it hears it.
    pub target: SubscriberTarget,
}

/// Where a durable subscriber's outcomes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriberTarget {
    /// An HTTP POST per outcome, signed by Standard Webhooks when there is a secret.
    Webhook {
        /// `http://` or `https://`
        url: String,
        /// `whsec_` and base64.
        secret: Option<Secret>,
    },
    /// A line of JSON per outcome.
    File(PathBuf),
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080))),
            socket_mode: 0o660,
            path: "/webhook/call-result".to_owned(),
            max_body_bytes: 64 * 1024,
            max_connections: 1024,
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            auth: WebhookAuth::None,
            secrets: Vec::new(),
        }
    }
}

impl CxoneConfig {
    /// The configuration for a tenant's host name and its client, everything else by default.
    #[must_use]
    pub fn new(environment: &str, client_id: Secret, client_secret: Secret) -> Self {
        Self {
            environment: environment.to_owned(),
            base_url: format!("https://{environment}/api/v2"),
            token_url: format!("https://{environment}/oauth/token"),
            client_id,
            client_secret,
            grant: Grant::ClientCredentials,
            client_auth: ClientAuth::Body,
            scope: None,
            update_method: "PATCH".to_owned(),
            update_path: "/contacts/{contactId}".to_owned(),
            timeout: Duration::from_secs(15),
            token_timeout: Duration::from_secs(10),
            refresh_margin: Duration::from_secs(300),
        }
    }
}

impl Default for CxoneConfig {
    /// No tenant: without environment, URLs and credentials, everything else as in [`CxoneConfig::new`].
    fn default() -> Self {
        let none = Self::new("", Secret::default(), Secret::default());
        Self { base_url: String::new(), token_url: String::new(), ..none }
    }
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            workers: 16,
            queue: 1024,
            rate_limit: 0,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            max_age: Duration::from_secs(24 * 3600),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./dispod-data"),
            max_size_bytes: 1024 * 1024 * 1024,
            audit_retention: Duration::from_secs(90 * 24 * 3600),
            dedupe_window: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: Some(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 9090)))) }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: log::LevelFilter::Info, format: LogFormat::Text, mask_contacts: false }
    }
}
