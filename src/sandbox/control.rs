//! The sandbox's own endpoints, `/_...`: what it holds, and what it is told while it runs.

use serde::Deserialize;
use tiny_http::Method;

use super::answer::{Buffers, Call, shorten};
use super::options::{Behaviour, ExpiresIn, Faults, LimitStyle, RateLimit, Reply, RetryAfter};
use super::parse;
use super::server::Shared;
use crate::error::Error;

/// One contact is below it, all of them are at it.
const CONTACTS: &str = "/_contacts";

/// Answers every request that is neither for a token nor for a contact.
pub(super) fn answer(shared: &Shared, call: &Call<'_>, out: &mut Buffers) {
    let get = *call.method == Method::Get;
    let post = *call.method == Method::Post;
    let contact = call.url.strip_prefix(CONTACTS).and_then(|rest| rest.strip_prefix('/'));
    match call.url {
        CONTACTS if get => ok(&shared.ledger().contacts(), out),
        "/_stats" if get => ok(&shared.ledger().stats, out),
        "/_revoke" if post => {
            shared.revoke();
            done(out);
        }
        "/_script" if post => match script(shared, call.body) {
            Ok(()) => done(out),
            Err(why) => out.error(400, "", "invalid_request", &why),
        },
        "/_behaviour" if post => match behave(shared, call.body) {
            Ok(()) => done(out),
            Err(why) => out.error(400, "", "invalid_request", &why),
        },
        CONTACTS | "/_stats" => out.error(405, "Allow: GET\r\n", "method_not_allowed", "GET is expected"),
        "/_revoke" | "/_script" | "/_behaviour" => {
            out.error(405, "Allow: POST\r\n", "method_not_allowed", "POST is expected");
        }
        url => {
            let id = contact
                .filter(|_| get)
                .map(|id| percent_encoding::percent_decode_str(id).decode_utf8_lossy());
            match id.and_then(|id| shared.ledger().contact(&id)) {
                Some(contact) => ok(&contact, out),
                None => out.error(404, "", "not_found", &format!("there is no `{}`", shorten(url))),
            }
        }
    }
}

fn ok(value: &impl serde::Serialize, out: &mut Buffers) {
    out.json(value);
    out.finish(200, "");
}

fn done(out: &mut Buffers) {
    ok(&serde_json::json!({"done": true}), out);
}

/// Adds replies to a contact's script, unless there are too many.
pub(super) fn add_script(shared: &Shared, id: &str, replies: &[Reply]) -> Result<(), Error> {
    replies.iter().try_for_each(|reply| reply.check())?;
    if shared.ledger().script(id, replies) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "at most {0} contacts with {0} replies each are scripted",
        super::ledger::SCRIPTS_MAX
    )))
}

/// `POST /_script`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptForm {
    contact: String,
    replies: Vec<ReplyForm>,
}

fn script(shared: &Shared, body: &[u8]) -> Result<(), String> {
    let form: ScriptForm = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let replies = form.replies.into_iter().map(Reply::try_from).collect::<Result<Vec<_>, _>>()?;
    add_script(shared, &form.contact, &replies).map_err(|error| error.to_string())
}

/// A [`Reply`] in JSON: `"normal"`, `"hang"`, `"cut"`, `"reset"`, `503`, `{"status":429,"retry_after":1}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReplyForm {
    Name(String),
    Status(u16),
    Full {
        status: u16,
        /// Seconds.
        retry_after: u32,
    },
}

impl TryFrom<ReplyForm> for Reply {
    type Error = String;

    fn try_from(form: ReplyForm) -> Result<Self, String> {
        Ok(match form {
            ReplyForm::Status(status) => Self::Status(status),
            ReplyForm::Full { status, retry_after } => {
                Self::RetryLater(status, RetryAfter::Seconds(retry_after))
            }
            ReplyForm::Name(name) => match name.as_str() {
                "normal" => Self::Normal,
                "hang" => Self::Hang,
                "cut" => Self::Cut,
                "reset" => Self::Reset,
                _ => return Err(format!("reply `{name}` is not one of normal, hang, cut, reset")),
            },
        })
    }
}

/// `POST /_behaviour`: what is absent stays as it is. `rate_limit`, `burst`, `retry_after` and `window` make up one
/// limit and come together.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BehaviourForm {
    latency: Option<String>,
    /// `off` or a rate.
    rate_limit: Option<String>,
    burst: Option<u32>,
    /// Seconds.
    retry_after: Option<u32>,
    /// Count by fixed windows instead of a bucket.
    window: bool,
    error_rate: Option<f64>,
    faults: Option<FaultsForm>,
    outage: Option<ReplyForm>,
    token_outage: Option<ReplyForm>,
    token_lifetime: Option<String>,
    /// `number`, `text` or `absent`.
    expires_in: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FaultsForm {
    hang: f64,
    cut: f64,
    reset: f64,
    error: f64,
    throttle: f64,
}

fn behave(shared: &Shared, body: &[u8]) -> Result<(), String> {
    let form: BehaviourForm = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let mut next = shared.behaviour();
    form.apply(&mut next)?;
    shared.set_behaviour(|behaviour| *behaviour = next).map_err(|error| error.to_string())
}

impl BehaviourForm {
    fn apply(self, to: &mut Behaviour) -> Result<(), String> {
        if self.rate_limit.is_none() && (self.burst.is_some() || self.retry_after.is_some() || self.window) {
            return Err("burst, retry_after and window belong to a rate_limit".to_owned());
        }
        match self.rate_limit.as_deref() {
            None => {}
            Some("off") => to.rate_limit = None,
            Some(rate) => {
                let mut limit: RateLimit = rate.parse()?;
                if self.window {
                    limit.style = LimitStyle::FixedWindow;
                } else if let Some(burst) = self.burst {
                    limit.style = LimitStyle::TokenBucket { burst };
                }
                limit.retry_after = self.retry_after.map_or(RetryAfter::Absent, RetryAfter::Seconds);
                to.rate_limit = Some(limit);
            }
        }
        if let Some(latency) = self.latency {
            to.latency = parse::latency(&latency)?;
        }
        if let Some(rate) = self.error_rate {
            to.error_rate = rate;
        }
        if let Some(FaultsForm { hang, cut, reset, error, throttle }) = self.faults {
            to.faults = Faults { hang, cut, reset, error, throttle };
        }
        if let Some(outage) = self.outage {
            to.outage = outage.try_into()?;
        }
        if let Some(outage) = self.token_outage {
            to.token_outage = outage.try_into()?;
        }
        if let Some(lifetime) = self.token_lifetime {
            to.token_lifetime = parse::duration(&lifetime)?;
        }
        to.expires_in = match self.expires_in.as_deref() {
            None => to.expires_in,
            Some("number") => ExpiresIn::Number,
            Some("text") => ExpiresIn::Text,
            Some("absent") => ExpiresIn::Absent,
            Some(other) => return Err(format!("expires_in `{other}` is not one of number, text, absent")),
        };
        Ok(())
    }
}
