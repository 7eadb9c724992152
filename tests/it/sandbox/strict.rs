//! Whatever differs from the contract is refused, in words, and nothing else is.

use std::time::Duration;

use base64::Engine as _;
use dispod::config::Secret;
use dispod::sandbox::{Behaviour, RateLimit, Reply, Sandbox, SandboxOptions};

use super::{BODY, Caller, FORM, JSON, LOGIN, json, login, start};
use crate::support::http::{self, Client};

#[test]
fn a_call_that_differs_from_the_contract_is_refused_with_words() {
    let sandbox = start(Behaviour::default());
    let Caller { mut client, bearer } = Caller::new(&sandbox);
    let good = [("Authorization", bearer.as_str()), ("Content-Type", JSON), ("Accept", JSON)];
    let without = |name: &str| good.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let with = |name, value| [without(name), vec![(name, value)]].concat();
    let again = |name, value| [good.to_vec(), vec![(name, value)]].concat();
    let body = |from: &str, to: &str| {
        assert!(BODY.contains(from), "{from}");
        BODY.replacen(from, to, 1)
    };
    let headers = [
        (without("Authorization"), "no Authorization"),
        (without("Content-Type"), "no Content-Type"),
        (without("Accept"), "no Accept"),
        (with("Content-Type", "application/json; charset=utf-8"), "Content-Type is"),
        (with("Content-Type", "text/plain"), "Content-Type is"),
        (with("Accept", "*/*"), "Accept is"),
        (again("Accept", JSON), "more than one Accept"),
        (again("authorization", "Bearer x"), "more than one Authorization"),
        (again("content-type", JSON), "more than one Content-Type"),
    ];
    let bodies = [
        (String::new(), "body:"),
        (BODY[..BODY.len() - 1].to_owned(), "body:"),
        (format!("{BODY}\n"), "differs at byte"),
        (body(":{", ": {"), "differs at byte 10"),
        (body("\"do_not_call\"", "\"do\\u005fnot_call\""), "differs at byte"),
        (body("\"custom\"", "\"customs\""), "body:"),
        (body("{\"custom\"", "{\"id\":1,\"custom\""), "body:"),
        (body("\"disposition_category\"", "\"x\":1,\"disposition_category\""), "body:"),
        (body("\"disposition_category\":\"do_not_call\",", ""), "body:"),
        (body("\"do_not_call\"", "1"), "body:"),
        (
            r#"{"custom":{"last_audit_log":"[t] Disposition 1 mapped to a","disposition_category":"a"}}"#
                .into(),
            "byte 12",
        ),
        (body("[2024-05-20T10:00:00Z]", "[]"), "last_audit_log is"),
        (body("1001", ""), "last_audit_log is"),
        (body("mapped to do_not_call", "mapped to other"), "last_audit_log is"),
        (body("Disposition", "disposition"), "last_audit_log is"),
    ];
    let ids = ["", "a/b", "a%2", "a+b", "12?x=1", "..", "%00", "a%0d"];
    let cases =
        (headers.into_iter().map(|(headers, words)| ("1".to_owned(), headers, BODY.to_owned(), words)))
            .chain(bodies.into_iter().map(|(body, words)| ("1".to_owned(), good.to_vec(), body, words)))
            .chain(ids.into_iter().map(|id| (id.to_owned(), good.to_vec(), BODY.to_owned(), "contact id")));
    let mut count = 0;
    for (id, headers, body, words) in cases {
        let target = format!("/api/v2/contacts/{id}");
        let answer = client.request("PATCH", &target, &headers, body.as_bytes()).expect("an answer");
        let text = answer.text();
        assert!(
            answer.status == 400 && text.contains(words),
            "{target} {headers:?} {body}: {answer:?} {text}"
        );
        count += 1;
    }
    let stats = sandbox.stats();
    assert_eq!((stats.violations, stats.calls, stats.updates), (count, count, 0));
    assert!(sandbox.contacts().is_empty(), "nothing refused is held");
    let answer = client.request("PATCH", "/api/v2/contacts/1", &good, BODY.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "the connection outlived the refusals");
}

#[test]
fn other_methods_and_paths_are_refused() {
    let sandbox = start(Behaviour::default());
    let mut client = Client::connect(sandbox.local_addr()).expect("a connection");
    for (method, target, status, allow) in [
        ("GET", "/api/v2/contacts/1", 405, Some("PATCH")),
        ("PUT", "/api/v2/contacts/1", 405, Some("PATCH")),
        ("GET", "/oauth/token", 405, Some("POST")),
        ("POST", "/_stats", 405, Some("GET")),
        ("HEAD", "/_contacts", 405, Some("GET")),
        ("GET", "/_revoke", 405, Some("POST")),
        ("GET", "/", 404, None),
        ("PATCH", "/api/v2/contacts", 404, None),
        ("POST", "/oauth/token?x=1", 404, None),
        ("GET", "/_contacts/1", 404, None),
    ] {
        let answer = client.request(method, target, &[], b"").expect("an answer");
        assert_eq!((answer.status, answer.header("Allow")), (status, allow), "{method} {target}");
    }
}

#[test]
fn the_token_form_is_strict() {
    let user = Some(("u@x".to_owned(), Secret::new("key====")));
    let secret = "p&q+r:s%41=";
    let options = SandboxOptions { client_secret: Secret::new(secret), user, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).expect("a sandbox");
    let encoded = "p%26q%2Br%3As%2541%3D";
    let client = format!("client_id=sandbox&client_secret={encoded}");
    let password = "grant_type=password&username=u%40x&password=key%3D%3D%3D%3D";
    for (form, status) in [
        (format!("grant_type=client_credentials&{client}"), 200),
        (format!("{client}&scope=a+b&grant_type=client_credentials"), 200),
        (format!("{password}&{client}"), 200),
        (format!("grant_type=client_credentials&client_id=sandbox&client_secret={secret}"), 400),
        ("grant_type=client_credentials&client_id=sandbox&client_secret=wrong".to_owned(), 401),
        (format!("grant_type=client_credentials&{}", client.replace("sandbox", "other")), 401),
        (format!("{}&{client}", password.replace("key", "kez")), 401),
        (format!("grant_type=client_credentials&client_id=sandbox&{client}"), 400),
        (format!("grant_type=client_credentials&{client}&extra=1"), 400),
        (format!("grant_type=client_credentials&{client}&scope="), 400),
        (format!("grant_type=client_credentials&username=u&{client}"), 400),
        (format!("grant_type=password&username=u%40x&{client}"), 400),
        (format!("grant_type=implicit&{client}"), 400),
        (client.clone(), 400),
        ("grant_type=client_credentials".to_owned(), 400),
        (format!("grant_type=client_credentials&{client}&"), 400),
        (r#"{"grant_type":"client_credentials"}"#.to_owned(), 400),
    ] {
        let answer = login(&sandbox, &form);
        assert_eq!(answer.status, status, "{form}: {}", answer.text());
        if status == 401 {
            assert_eq!(json(&answer)["error"], "invalid_client");
        }
        assert!(!answer.text().contains(encoded), "a refusal repeats the secret");
    }
    assert_eq!(sandbox.stats().tokens_issued, 3);
    let json_type = [("Content-Type", JSON)];
    let form = format!("grant_type=client_credentials&{client}");
    let answer = http::request(sandbox.local_addr(), "POST", "/oauth/token", &json_type, form.as_bytes());
    assert_eq!(answer.expect("an answer").status, 400);
}

#[test]
fn basic_client_authentication() {
    let sandbox = start(Behaviour::default());
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for (credentials, form, status) in [
        (format!("Basic {}", base64("sandbox:sandbox-secret")), "grant_type=client_credentials", 200),
        (format!("Basic {}", base64("sandbox:s")), "grant_type=client_credentials", 401),
        (format!("Basic {}", base64("sandbox:sandbox-secret")), LOGIN, 400),
        (format!("Basic {}", base64("sandbox")), "grant_type=client_credentials", 400),
        ("Basic !".to_owned(), "grant_type=client_credentials", 400),
        ("Bearer x".to_owned(), "grant_type=client_credentials", 400),
    ] {
        let headers = [FORM, ("Authorization", credentials.as_str())];
        let answer = http::request(sandbox.local_addr(), "POST", "/oauth/token", &headers, form.as_bytes());
        assert_eq!(answer.expect("an answer").status, status, "{credentials} {form}");
    }
}

#[test]
fn a_body_beyond_all_measure_ends_its_connection_only() {
    let sandbox = start(Behaviour::default());
    for length in ["70000", "30000000000"] {
        let mut client = Client::connect(sandbox.local_addr()).expect("a connection");
        let head =
            format!("PATCH /api/v2/contacts/1 HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        client.send(head.as_bytes()).expect("sent");
        assert!(client.receive("PATCH").is_err(), "{length}");
    }
    assert_eq!(Caller::new(&sandbox).status("1"), 200);
}

#[test]
fn options_out_of_range_are_refused() {
    let options = |behaviour| SandboxOptions { behaviour, ..SandboxOptions::default() };
    let ms = Duration::from_millis;
    for wrong in [
        SandboxOptions { threads: 0, ..SandboxOptions::default() },
        SandboxOptions { threads: 100_000, ..SandboxOptions::default() },
        options(Behaviour { error_rate: -0.1, ..Behaviour::default() }),
        options(Behaviour { error_rate: f64::NAN, ..Behaviour::default() }),
        options(Behaviour { latency: ms(2)..=ms(1), ..Behaviour::default() }),
        options(Behaviour { outage: Reply::Status(100), ..Behaviour::default() }),
        options(Behaviour { rate_limit: Some(RateLimit::per_second(0)), ..Behaviour::default() }),
    ] {
        assert!(Sandbox::start(wrong.clone()).is_err(), "{wrong:?}");
    }
}
