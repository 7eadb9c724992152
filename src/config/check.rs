//! What concerns several keys at once: what is required with what, and what does not go together.

use super::draft::{Draft, Origin};
use super::keys::{ENVIRONMENT_PLACE, KEYS};
use super::kind::found_text;
use super::names::FILE_SUFFIX;
use super::{Grant, Listen, Purpose, Secret, WebhookAuth, url};

/// Makes every check between keys, and puts the environment into the two URLs.
pub(super) fn all(draft: &mut Draft) {
    urls(draft);
    credentials(draft);
    webhook_secrets(draft);
    listeners(draft);
    let delivery = &draft.config.delivery;
    if delivery.backoff_base > delivery.backoff_max {
        let name = if draft.is_set("delivery.backoff_base") {
            "delivery.backoff_base"
        } else {
            "delivery.backoff_max"
        };
        let found = "backoff_base above backoff_max";
        draft.refuse(&draft.origin(name), name, found, "a base that is at most the maximum");
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
                    let allowed = "it with cxone.grant = \"password\" only";
                    draft.refuse(&origin, &full, "it with cxone.grant = \"client_credentials\"", allowed);
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
        require(draft, "webhook.secret", ", or webhook.secret_file, since webhook.auth is not \"none\"");
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
        let name = if draft.is_set("admin.listen") { "admin.listen" } else { "webhook.listen" };
        let allowed = "two different listeners, as the operator's is never the webhook's";
        draft.refuse(&draft.origin(name), name, "the same for webhook.listen and admin.listen", allowed);
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
