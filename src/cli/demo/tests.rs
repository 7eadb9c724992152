//! A real run holds every claim; a run in which anything went otherwise is reported.

use super::verify::{Claims, Observed};
use super::*;
use crate::event::Severity;
use crate::store::{State, StepKind};

fn real_run() -> (Observed, String) {
    let stage = Stage::set(true).unwrap();
    let mut text = Vec::new();
    let observed = play(&stage, &mut Screen::plain(&mut text)).unwrap();
    (observed, String::from_utf8(text).unwrap())
}

/// A way in which a run could go wrong, and a word of the claim that must fail then.
type Mishap = (&'static str, fn(&mut Observed));

const MISHAPS: [Mishap; 21] = [
    ("post 1: reply", |run| run.seen[0].reply.status = 503),
    ("post 7: reply", |run| run.seen[6].reply.body = "Received".to_owned()),
    ("post 3: answered 200 and not in the store", |run| run.seen[2].kept = None),
    ("post 2: category", |run| event(run, 2).stored.event.category = "do_not_call".to_owned()),
    ("post 4: severity", |run| event(run, 4).stored.event.severity = Severity::Critical),
    ("post 5: state", |run| event(run, 5).stored.state = State::Pending),
    ("post 12: state", |run| event(run, 12).stored.state = State::Delivered),
    ("post 12: last status", |run| event(run, 12).stored.settled.status = Some(410)),
    ("post 12: reason", |run| event(run, 12).stored.settled.reason = Some("expired".to_owned())),
    ("post 9: calls to the API", |run| event(run, 9).steps.retain(|step| step.kind != StepKind::Attempt)),
    ("post 13: settled after", |run| event(run, 13).stored.event.received_ms += 500),
    ("post 1: repeats recorded", |run| event(run, 1).steps.clear()),
    ("events in the store", |run| run.events += 1),
    ("contacts called for", |run| drop(run.contacts.remove("4567890123"))),
    ("contact 1234567890: updates", |run| contact(run, "1234567890").updates = 2),
    ("contact 7890123456: bodies, in order", |run| contact(run, "7890123456").history.reverse()),
    ("contact 5678901234: bodies, in order", |run| {
        contact(run, "5678901234").history[0].custom.last_audit_log += ".";
    }),
    ("outcomes published", |run| drop(run.outcomes.pop())),
    ("outcomes published", |run| run.outcomes[0].severity = Severity::Low),
    ("tokens fetched", |run| run.stats.tokens_issued = 3),
    ("calls earlier than Retry-After said", |run| run.stats.early_calls = 1),
];

fn event(run: &mut Observed, number: usize) -> &mut verify::Kept {
    run.seen[number - 1].kept.as_mut().unwrap()
}

fn contact<'a>(run: &'a mut Observed, id: &str) -> &'a mut crate::sandbox::Contact {
    run.contacts.get_mut(id).unwrap()
}

#[test]
fn a_run_holds_its_claims_and_every_mishap_is_reported() {
    let (run, text) = real_run();
    let Claims { checked, wrong } = verify::verify(&run);
    assert!(wrong.is_empty() && checked > 100, "{checked} {wrong:#?}\n{text}");
    for (what, happen) in MISHAPS {
        let mut other = run.clone();
        happen(&mut other);
        let claims = verify::verify(&other);
        assert!(claims.wrong.iter().any(|claim| claim.contains(what)), "{what}: {:#?}", claims.wrong);
        let mut shown = Vec::new();
        explain(&mut Screen::plain(&mut shown), &claims).unwrap();
        assert!(String::from_utf8(shown).unwrap().contains(what), "{what} is not shown");
    }
}
