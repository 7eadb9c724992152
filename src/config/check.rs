//! What concerns several keys at once: what is required with what, and what does not go together.

use super::draft::{Draft, Origin};
use super::keys::{ENVIRONMENT_PLACE, KEYS};
use super::kind::found_text;
use super::names::FILE_SUFFIX;
use super::values::{format_duration, format_listen};
use super::{Grant, Listen, Purpose, Secret, WebhookAuth, url};

/// Makes every check between keys, and puts the environment into the two URLs.
pub(super) fn all(draft: &mut Draft) {
    urls(draft);
    credentials(draft);
    webhook_secrets(draft);
    listeners(draft);
    let (base, max) = (draft.config.delivery.backoff_base, draft.config.delivery.backoff_max);
    if base > max {
        let (base, max) = (format_duration(base), format_duration(max));
        let (name, found, allowed) = if draft.is_set("delivery.backoff_base") {
            ("delivery.backoff_base", base, format!("at most delivery.backoff_max, {max}"))
        } else {
            ("delivery.backoff_max", max, format!("at least delivery.backoff_base, {base}"))
        };
        draft.refuse(&draft.origin(name), name, format!("{found:?}"), allowed);
    }
}

fn urls(draft: &mut Draft) {
    let environment = draft.config.cxone.environment.clone();
    let mut missing = false;
    for name in ["cxone.base_url", "cxone.token_url"] {
        let cxone = &mut draft.config.cxone;
        let field = if name == "cxone.base_url" { &mut cxone.base_url } else { &mut cxone.token_url };
        if environment.is_empty() && field.contains(ENVIRONMENT_PLACE) {
            field.clear();
            missing = true;
            continue;
        }
        let expanded = field.replace(ENVIRONMENT_PLACE, &environment);
        let is_base = name == "cxone.base_url";
        // Only the base is added to.
        *field = if is_base { expanded.trim_end_matches('/').to_owned() } else { expanded.clone() };
        if !url::is_allowed(&expanded) {
            draft.refuse(&draft.origin(name), name, found_text(&expanded), url::ALLOWED);
        } else if is_base && expanded.contains('?') {
            draft.refuse(&draft.origin(name), name, found_text(&expanded), "a URL without a query");
        }
    }
    if missing {
        require(
            draft,
            "cxone.environment",
            ", or both cxone.base_url and cxone.token_url without {environment}",
        );
    }
}

fn credentials(draft: &mut Draft) {
    let cxone = &draft.config.cxone;
    let (no_id, no_secret) = (cxone.client_id.is_empty(), cxone.client_secret.is_empty());
    let (no_username, no_password) = match &cxone.grant {
        Grant::Password { username, password } => (username.is_empty(), password.is_empty()),
        Grant::ClientCredentials => {
            for name in ["cxone.username", "cxone.password"] {
                if let Some((full, origin)) = set_secret(draft, name) {
                    let found = "it together with cxone.grant = \"client_credentials\"";
                    draft.refuse(&origin, &full, found, "it with cxone.grant = \"password\" only");
                }
            }
            (false, false)
        }
    };
    let names = ["cxone.client_id", "cxone.client_secret", "cxone.username", "cxone.password"];
    for (name, missing) in names.into_iter().zip([no_id, no_secret, no_username, no_password]) {
        if missing {
            require(draft, name, &format!(", or {name}{FILE_SUFFIX} with a file that holds it"));
        }
    }
}

fn webhook_secrets(draft: &mut Draft) {
    let webhook = &draft.config.webhook;
    let wrong = |secret: &Secret| !secret.is_redacted() && secret.standard_webhooks_key().is_none();
    if webhook.auth == WebhookAuth::None {
        return;
    }
    if webhook.secrets.is_empty() {
        if draft.purpose == Purpose::Serve {
            let allowed = "a method with webhook.secret or webhook.secret_file, or \"none\"";
            draft.refuse(&draft.origin("webhook.auth"), "webhook.auth", "a method and no secret", allowed);
        }
    } else if webhook.auth == WebhookAuth::StandardWebhooks && webhook.secrets.iter().any(wrong) {
        let (full, origin) =
            set_secret(draft, "webhook.secret").unwrap_or(("webhook.secret".into(), Origin::Missing));
        let allowed = "\"whsec_\" and base64, as webhook.auth is \"standard-webhooks\"";
        draft.refuse(&origin, &full, "a secret of another form", allowed);
    }
}

fn listeners(draft: &mut Draft) {
    let webhook = &draft.config.webhook.listen;
    let anywhere = matches!(webhook, Listen::Tcp(address) if address.port() == 0);
    if draft.config.admin.listen.as_ref() == Some(webhook) && !anywhere {
        let (name, other) = if draft.is_set("admin.listen") {
            ("admin.listen", "webhook.listen")
        } else {
            ("webhook.listen", "admin.listen")
        };
        let found = format!("{:?}, which is {other}", format_listen(webhook));
        draft.refuse(
            &draft.origin(name),
            name,
            found,
            "another address: the operator's is never the webhook's",
        );
    }
}

/// Under which of its two names a secret is set, and where.
fn set_secret(draft: &Draft, name: &str) -> Option<(String, Origin)> {
    let names = [name.to_owned(), format!("{name}{FILE_SUFFIX}")];
    names.into_iter().find(|full| draft.is_set(full)).map(|full| (full.clone(), draft.origin(&full)))
}

fn require(draft: &mut Draft, name: &str, alternative: &str) {
    if draft.purpose == Purpose::Serve {
        let allowed =
            KEYS.iter().find(|key| key.name == name).map(|key| key.kind.allowed()).unwrap_or_default();
        draft.mistake(&Origin::Missing, name, format!("not set, allowed: {allowed}{alternative}"));
    }
}
