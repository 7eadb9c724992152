//! What is asked for: path, method and query, parsed once.

use super::errands::What;
use super::query::{self, Query, invalid};
use crate::event::{CONTACT_ID_MAX_BYTES, Severity};
use crate::flow::Operation;
use crate::http::{Head, Reply};

/// Dead letters on a page unless asked otherwise.
const DEAD_LIMIT_DEFAULT: usize = 100;
/// Dead letters on a page at most.
const DEAD_LIMIT_MAX: usize = 1000;
/// Events of a contact on a page unless asked otherwise.
const AUDIT_LIMIT_DEFAULT: usize = 20;
/// Events of a contact on a page at most.
const AUDIT_LIMIT_MAX: usize = 100;

/// A request, understood.
#[derive(Debug, Clone)]
pub(super) enum Route {
    Page,
    Livez,
    Readyz,
    Metrics,
    Status,
    /// Outcomes of these severities as they come.
    Events(Vec<Severity>),
    /// Something the store or the keeper is needed for.
    Errand(What),
}

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Page,
    Livez,
    Readyz,
    Metrics,
    Status,
    Events,
    Audit,
    Dead,
    DeadRetry,
    DeadDrop,
    Letter(u64),
    LetterRetry(u64),
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            "/api/status" => Self::Status,
            "/api/events" => Self::Events,
            "/api/audit" => Self::Audit,
            "/api/dead" => Self::Dead,
            "/api/dead/retry" => Self::DeadRetry,
            "/api/dead/drop" => Self::DeadDrop,
            _ => {
                let letter = path.strip_prefix("/api/dead/")?;
                match letter.strip_suffix("/retry") {
                    Some(id) => Self::LetterRetry(query::parse_id(id)?),
                    None => Self::Letter(query::parse_id(letter)?),
                }
            }
        })
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::DeadRetry | Self::DeadDrop | Self::LetterRetry(_) => "POST",
            Self::Letter(_) => "GET, HEAD, DELETE",
            _ => "GET, HEAD",
        }
    }
}

impl Route {
    /// What a request asks for.
    ///
    /// # Errors
    /// The answer to one that asks for nothing we have.
    pub(super) fn of(head: Head<'_>) -> Result<Self, Reply> {
        let place = Place::of(head.path()).ok_or(Reply::new(404, "Not found"))?;
        if !place.allowed().split(", ").any(|method| method == head.method()) {
            return Err(Reply::new(405, "Method not allowed").allow(place.allowed()));
        }
        let mut query = match place {
            // Anybody's link may have grown a parameter.
            Place::Page | Place::Livez | Place::Readyz | Place::Metrics => Query::default(),
            _ => Query::of(head)?,
        };
        let route = Self::at(place, head.method(), &mut query)?;
        query.end()?;
        Ok(route)
    }

    fn at(place: Place, method: &str, query: &mut Query) -> Result<Self, Reply> {
        Ok(Self::Errand(match place {
            Place::Page => return Ok(Self::Page),
            Place::Livez => return Ok(Self::Livez),
            Place::Readyz => return Ok(Self::Readyz),
            Place::Metrics => return Ok(Self::Metrics),
            Place::Status => return Ok(Self::Status),
            Place::Events => return severities(query).map(Self::Events),
            Place::Audit => What::Audit {
                contact_id: contact(query)?,
                below: query.take_id("below")?,
                limit: query.take_number("limit", 1..=AUDIT_LIMIT_MAX)?.unwrap_or(AUDIT_LIMIT_DEFAULT),
            },
            Place::Dead => What::Letters {
                after: query.take_id("after")?.unwrap_or(0),
                limit: query.take_number("limit", 1..=DEAD_LIMIT_MAX)?.unwrap_or(DEAD_LIMIT_DEFAULT),
            },
            Place::DeadRetry => {
                What::Operate(Operation::RetryAll { after_id: query.take_id("after")?.unwrap_or(0) })
            }
            Place::DeadDrop => {
                What::Operate(Operation::DropAll { after_id: query.take_id("after")?.unwrap_or(0) })
            }
            Place::LetterRetry(id) => What::Operate(Operation::Retry(vec![id])),
            Place::Letter(id) if method == "DELETE" => What::Operate(Operation::Drop(vec![id])),
            Place::Letter(id) => What::Letter(id),
        }))
    }

    /// Whether it is meant for programs, so that a browser asks for it only on behalf of a page.
    pub(super) fn is_for_programs(&self) -> bool {
        matches!(self, Self::Status | Self::Events(_) | Self::Errand(_))
    }

    /// Whether it changes anything.
    pub(super) fn changes_state(&self) -> bool {
        matches!(self, Self::Errand(What::Operate(_)))
    }
}

/// `severity=critical`, or several with commas; all of them without.
fn severities(query: &mut Query) -> Result<Vec<Severity>, Reply> {
    let Some(names) = query.take("severity") else { return Ok(Severity::ALL.to_vec()) };
    let parse = |name: &str| {
        Severity::parse(name)
            .ok_or_else(|| invalid("severity", &format!("{name:?}, critical, medium and low are allowed")))
    };
    names.split(',').map(parse).collect()
}

fn contact(query: &mut Query) -> Result<String, Reply> {
    let contact_id = query.take("contact").unwrap_or_default();
    if contact_id.is_empty() {
        return Err(invalid("contact", "it is required"));
    }
    if contact_id.len() > CONTACT_ID_MAX_BYTES {
        return Err(invalid("contact", &format!("at most {CONTACT_ID_MAX_BYTES} bytes are allowed")));
    }
    Ok(contact_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, place) in [
            ("/", Some(Place::Page)),
            ("/api/dead/7", Some(Place::Letter(7))),
            ("/api/dead/7/retry", Some(Place::LetterRetry(7))),
            ("/api/dead/retry", Some(Place::DeadRetry)),
            ("", None),
            ("//", None),
            ("/api/dead/", None),
            ("/api/dead//retry", None),
            ("/api/dead/-7", None),
            ("/api/dead/7/retry/", None),
            ("/api/dead/7/drop", None),
            ("/api", None),
            ("/Livez", None),
            ("/livez/", None),
        ] {
            assert_eq!(Place::of(path), place, "{path}");
        }
    }
}
