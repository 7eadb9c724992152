//! The one table of keys. The parser, the environment's names, the rendering and the reference all derive from it.

use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Field, Kind, Number, path_text};
use super::{ClientAuth, Grant, LogFormat, Secret, WebhookAuth, rules};

/// One key of the configuration.
pub(super) struct Key {
    /// `section.key`, or the key alone at the top level.
    pub name: &'static str,
    /// The default as written in the reference; empty where there is none.
    pub default: &'static str,
    pub kind: Kind,
    /// A few words for the reference.
    pub meaning: &'static str,
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longest duration of anything kept: far beyond any retention rule, far below an overflow of milliseconds.
const CENTURY: Duration = Duration::from_secs(36_500 * 24 * 3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// Largest body ever let in: `tiny_http` allocates what is left of a larger one when it is dropped.
const BODY_MAX_BYTES: u64 = MIB;

/// The place of `cxone.environment` in the two URLs.
pub(super) const ENVIRONMENT_PLACE: &str = "{environment}";

const METHODS: [&str; 3] = ["PATCH", "PUT", "POST"];
const AUTHS: [WebhookAuth; 4] =
    [WebhookAuth::None, WebhookAuth::Bearer, WebhookAuth::StandardWebhooks, WebhookAuth::HmacSha256];
const LEVELS: [log::LevelFilter; 6] = [
    log::LevelFilter::Off,
    log::LevelFilter::Error,
    log::LevelFilter::Warn,
    log::LevelFilter::Info,
    log::LevelFilter::Debug,
    log::LevelFilter::Trace,
];

const fn key(name: &'static str, default: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, default, kind, meaning }
}

const fn time(min: Duration, max: Duration, at: Field<Duration>) -> Kind {
    Kind::Duration(min, max, at)
}

/// All keys that hold one value, in the order in which they are rendered: a section's keys together, the top level
/// first.
pub(super) static KEYS: [Key; 41] = [
    key(
        "default_category",
        "unclassified",
        Kind::Text {
            rule: rules::CATEGORY,
            set: |c, text| c.mapping.default_category = text,
            get: |c| Some(c.mapping.default_category.clone()),
        },
        "category of a code that is not in the table",
    ),
    key(
        "webhook.listen",
        "127.0.0.1:8080",
        Kind::Listen(|c| &mut c.webhook.listen),
        "where call results come in",
    ),
    key(
        "webhook.socket_mode",
        "0660",
        Kind::Mode(|c| &mut c.webhook.socket_mode),
        "permissions of a Unix socket",
    ),
    key(
        "webhook.path",
        "/webhook/call-result",
        Kind::Text {
            rule: rules::WEBHOOK_PATH,
            set: |c, text| c.webhook.path = text,
            get: |c| Some(c.webhook.path.clone()),
        },
        "path call results are posted to",
    ),
    key(
        "webhook.max_body",
        "64KiB",
        Kind::Size(KIB, BODY_MAX_BYTES, Number::Usize(|c| &mut c.webhook.max_body_bytes)),
        "largest body; a larger one gets 413",
    ),
    key(
        "webhook.max_connections",
        "1024",
        Kind::Count(1, 100_000, Number::Usize(|c| &mut c.webhook.max_connections)),
        "connections at once; beyond, the longest idle are closed",
    ),
    key(
        "webhook.read_timeout",
        "10s",
        time(MS, HOUR, |c| &mut c.webhook.read_timeout),
        "from a request's first byte to its last",
    ),
    key(
        "webhook.write_timeout",
        "10s",
        time(MS, HOUR, |c| &mut c.webhook.write_timeout),
        "for the reply to be taken",
    ),
    key(
        "webhook.idle_timeout",
        "60s",
        time(MS, DAY, |c| &mut c.webhook.idle_timeout),
        "for a connection between requests",
    ),
    key(
        "webhook.auth",
        "none",
        Kind::Word {
            words: &["none", "bearer", "standard-webhooks", "hmac-sha256"],
            set: |c, at| c.webhook.auth = AUTHS[at],
            get: |c| place(&AUTHS, &c.webhook.auth),
        },
        "how the sender proves itself",
    ),
    key(
        "webhook.secret",
        "",
        Kind::Secret {
            many: true,
            set: |c, secrets| c.webhook.secrets = secrets,
            is_set: |c| !c.webhook.secrets.is_empty(),
        },
        "secrets of the sender, one a line, any of them accepted",
    ),
    key(
        "cxone.environment",
        "",
        Kind::Text {
            rule: rules::HOST,
            set: |c, text| c.cxone.environment = text,
            get: |c| non_empty(&c.cxone.environment),
        },
        "the tenant's host name; required unless both URLs are set",
    ),
    key(
        "cxone.base_url",
        "https://{environment}/api/v2",
        Kind::Text {
            rule: rules::URL,
            set: |c, text| c.cxone.base_url = text,
            get: |c| non_empty(&c.cxone.base_url),
        },
        "the Contact API",
    ),
    key(
        "cxone.token_url",
        "https://{environment}/oauth/token",
        Kind::Text {
            rule: rules::URL,
            set: |c, text| c.cxone.token_url = text,
            get: |c| non_empty(&c.cxone.token_url),
        },
        "the token endpoint",
    ),
    key(
        "cxone.client_id",
        "",
        Kind::Secret {
            many: false,
            set: |c, secrets| c.cxone.client_id = only(secrets),
            is_set: |c| !c.cxone.client_id.is_empty(),
        },
        "the OAuth client; required",
    ),
    key(
        "cxone.client_secret",
        "",
        Kind::Secret {
            many: false,
            set: |c, secrets| c.cxone.client_secret = only(secrets),
            is_set: |c| !c.cxone.client_secret.is_empty(),
        },
        "its secret; required",
    ),
    key(
        "cxone.grant",
        "client_credentials",
        Kind::Word {
            words: &["client_credentials", "password"],
            set: |c, at| {
                c.cxone.grant = match at {
                    0 => Grant::ClientCredentials,
                    _ => Grant::Password { username: Secret::default(), password: Secret::default() },
                };
            },
            get: |c| usize::from(matches!(c.cxone.grant, Grant::Password { .. })),
        },
        "the OAuth 2.0 grant; password is a real tenant's access key",
    ),
    key(
        "cxone.username",
        "",
        Kind::Secret {
            many: false,
            set: |c, secrets| {
                if let Grant::Password { username, .. } = &mut c.cxone.grant {
                    *username = only(secrets);
                }
            },
            is_set: |c| matches!(&c.cxone.grant, Grant::Password { username, .. } if !username.is_empty()),
        },
        "access key id, with the grant password",
    ),
    key(
        "cxone.password",
        "",
        Kind::Secret {
            many: false,
            set: |c, secrets| {
                if let Grant::Password { password, .. } = &mut c.cxone.grant {
                    *password = only(secrets);
                }
            },
            is_set: |c| matches!(&c.cxone.grant, Grant::Password { password, .. } if !password.is_empty()),
        },
        "access key secret, with the grant password",
    ),
    key(
        "cxone.client_auth",
        "body",
        Kind::Word {
            words: &["body", "basic"],
            set: |c, at| c.cxone.client_auth = [ClientAuth::Body, ClientAuth::Basic][at],
            get: |c| usize::from(c.cxone.client_auth == ClientAuth::Basic),
        },
        "where the client's credentials go: form fields, or an Authorization header",
    ),
    key(
        "cxone.scope",
        "",
        Kind::Text {
            rule: rules::PLAIN,
            set: |c, text| c.cxone.scope = Some(text),
            get: |c| c.cxone.scope.clone(),
        },
        "OAuth scope, sent if set",
    ),
    key(
        "cxone.update_method",
        "PATCH",
        Kind::Word {
            words: &METHODS,
            set: |c, at| METHODS[at].clone_into(&mut c.cxone.update_method),
            get: |c| place(&METHODS, &c.cxone.update_method.as_str()),
        },
        "method of the contact update",
    ),
    key(
        "cxone.update_path",
        "/contacts/{contactId}",
        Kind::Text {
            rule: rules::UPDATE_PATH,
            set: |c, text| c.cxone.update_path = text,
            get: |c| Some(c.cxone.update_path.clone()),
        },
        "path of the contact update, below `base_url`",
    ),
    key(
        "cxone.timeout",
        "15s",
        time(MS, HOUR, |c| &mut c.cxone.timeout),
        "one whole exchange with the Contact API",
    ),
    key(
        "cxone.token_timeout",
        "10s",
        time(MS, HOUR, |c| &mut c.cxone.token_timeout),
        "one whole exchange with the token endpoint",
    ),
    key(
        "cxone.refresh_margin",
        "300s",
        time(Duration::ZERO, DAY, |c| &mut c.cxone.refresh_margin),
        "how long before its end a token is renewed; never more than half its lifetime",
    ),
    key(
        "delivery.workers",
        "16",
        Kind::Count(1, 4096, Number::Usize(|c| &mut c.delivery.workers)),
        "updates at once",
    ),
    key(
        "delivery.queue",
        "1024",
        Kind::Count(1, 1_000_000, Number::Usize(|c| &mut c.delivery.queue)),
        "events held in memory; the rest waits on disk",
    ),
    key(
        "delivery.rate_limit",
        "0",
        Kind::Count(0, 1_000_000, Number::U32(|c| &mut c.delivery.rate_limit)),
        "updates per second; 0: no limit of ours, 429s are still obeyed",
    ),
    key(
        "delivery.backoff_base",
        "1s",
        time(MS, DAY, |c| &mut c.delivery.backoff_base),
        "first retry, then doubling, with full jitter",
    ),
    key("delivery.backoff_max", "5m", time(MS, DAY, |c| &mut c.delivery.backoff_max), "longest wait"),
    key(
        "delivery.max_age",
        "24h",
        time(MS, CENTURY, |c| &mut c.delivery.max_age),
        "older than this, an event that still fails is dead",
    ),
    key(
        "delivery.shutdown_grace",
        "10s",
        time(Duration::ZERO, HOUR, |c| &mut c.delivery.shutdown_grace),
        "for what is in flight at the stop",
    ),
    key(
        "store.dir",
        "$STATE_DIRECTORY, else ./dispod-data",
        Kind::Text {
            rule: rules::PATH,
            set: |c, text| c.store.dir = PathBuf::from(text),
            get: |c| Some(path_text(&c.store.dir)),
        },
        "where kept events live",
    ),
    key(
        "store.max_size",
        "1GiB",
        Kind::Size(MIB, TIB, Number::U64(|c| &mut c.store.max_size_bytes)),
        "backlog limit on disk; beyond, new events get 503",
    ),
    key(
        "store.audit_retention",
        "90d",
        time(Duration::ZERO, CENTURY, |c| &mut c.store.audit_retention),
        "how long the audit is kept",
    ),
    key(
        "store.dedupe_window",
        "24h",
        time(Duration::ZERO, CENTURY, |c| &mut c.store.dedupe_window),
        "how long a repeated event is known",
    ),
    key(
        "admin.listen",
        "127.0.0.1:9090",
        Kind::ListenOrOff(|c| &mut c.admin.listen),
        "the operator's listener",
    ),
    key(
        "log.level",
        "info",
        Kind::Word {
            words: &["off", "error", "warn", "info", "debug", "trace"],
            set: |c, at| c.log.level = LEVELS[at],
            get: |c| place(&LEVELS, &c.log.level),
        },
        "least important line logged; `RUST_LOG` wins",
    ),
    key(
        "log.format",
        "text",
        Kind::Word {
            words: &["text", "json"],
            set: |c, at| c.log.format = [LogFormat::Text, LogFormat::Json][at],
            get: |c| usize::from(c.log.format == LogFormat::Json),
        },
        "a line for a person, or a JSON object a line",
    ),
    key(
        "log.mask_contacts",
        "false",
        Kind::Flag(|c| &mut c.log.mask_contacts),
        "show of a contact's id its last four characters only",
    ),
];

fn place<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|each| each == one).unwrap_or_default()
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn only(secrets: Vec<Secret>) -> Secret {
    secrets.into_iter().next().unwrap_or_default()
}
