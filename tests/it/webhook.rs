//! The webhook answers as contract sections 4 to 6 say: statuses, bodies, headers, keys, authentication.

use std::io::Write;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dispod::config::{Secret, WebhookAuth, WebhookConfig};
use dispod::keep::{DedupeKey, Receipt};
use dispod::metrics::AuthFailure;

use crate::door::{self, Answer, Door, GOOD_BODY, post, read_answer, read_answer_to};

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

fn check(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body), "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert!(answer.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
}

#[test]
fn the_table_of_section_4() {
    let door = door::open();
    check(&door.post(GOOD_BODY), 200, "Received");
    check(
        &door.ask(&post(GOOD_BODY, "Content-Type: application/x-www-form-urlencoded\r\n")),
        200,
        "Received",
    );
    let get_webhook = door.ask(&get("/webhook/call-result", ""));
    check(&get_webhook, 405, "Method not allowed");
    assert_eq!(get_webhook.header("Allow"), Some("POST"));
    for broken in ["", "{", "[]", "null", "\"x\"", "{\"contactId\":\"1\",}", "\u{feff}{}", "{} x"] {
        check(&door.post(broken), 400, "Invalid JSON payload");
    }
    for missing in ["{}", r#"{"contactId":"1"}"#, r#"{"contactId":"","dispositionCode":"1"}"#] {
        check(&door.post(missing), 400, "Missing contactId or dispositionCode");
    }
    let typed = door.post(r#"{"contactId":true,"dispositionCode":"1"}"#);
    check(&typed, 400, "Invalid contactId: a boolean, a string or an integer is expected");
    check(&door.ask(&get("/", "")), 404, "Not found");
    check(&door.ask(&get("/webhook/call-result/", "")), 404, "Not found");
    check(&door.ask(&get("/healthz", "")), 200, "ok");
    let large = door.post(&" ".repeat(64 * 1024 + 1));
    check(&large, 413, "Payload too large");
    assert!(large.closes());
    assert_eq!(door.kept_count(), 2);
    let counted: Vec<_> = door.metrics.webhook_requests.seen().collect();
    assert_eq!(counted, [(200, 3), (400, 12), (404, 2), (405, 1), (413, 1)]);
    door.close();
}

#[test]
fn bodies_up_to_the_limit_are_taken_whole() {
    let door = door::open();
    // Around tiny_http's own limit of 1024 bytes, and at ours.
    for length in [900, 1023, 1024, 1025, 5000, 64 * 1024] {
        let padded = format!("{}{}", GOOD_BODY, " ".repeat(length - GOOD_BODY.len()));
        check(&door.post(&padded), 200, "Received");
    }
    assert_eq!(door.kept_count(), 6);
    door.close();
}

#[test]
fn integers_are_taken_as_their_digits() {
    let door = door::open();
    check(&door.post(r#"{"contactId":12345678901234567890123,"dispositionCode":1001}"#), 200, "Received");
    let kept = door.kept.lock().unwrap()[0].clone();
    assert_eq!(
        (kept.contact_id.as_str(), kept.disposition_code.as_str()),
        ("12345678901234567890123", "1001")
    );
    door.close();
}

#[test]
fn json_answers_for_who_asks() {
    let door = door::open();
    let json = |request: &[u8]| {
        let answer = door.ask(request);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        (answer.status, answer.body)
    };
    let accept = "Accept: application/json\r\n";
    assert_eq!(json(&post(GOOD_BODY, accept)), (200, r#"{"status":"received"}"#.to_owned()));
    assert_eq!(
        json(&post("{}", accept)),
        (400, r#"{"error":"Missing contactId or dispositionCode"}"#.to_owned())
    );
    assert_eq!(json(&get("/x", accept)), (404, r#"{"error":"Not found"}"#.to_owned()));
    assert_eq!(json(&get("/healthz", accept)), (200, r#"{"status":"ok"}"#.to_owned()));
    let long =
        format!("POST /webhook/call-result HTTP/1.1\r\nHost: x\r\n{accept}Content-Length: 99999\r\n\r\n");
    assert_eq!(json(long.as_bytes()), (413, r#"{"error":"Payload too large"}"#.to_owned()));
    door.close();
}

#[test]
fn the_target_may_have_a_query_or_be_absolute() {
    let door = door::open();
    let length = GOOD_BODY.len();
    for target in [
        "/webhook/call-result?source=studio",
        "http://dispod.example/webhook/call-result",
        "https://dispod.example:8443/webhook/call-result?x",
    ] {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{GOOD_BODY}");
        check(&door.ask(request.as_bytes()), 200, "Received");
    }
    door.close();
}

#[test]
fn head_answers_have_no_body_and_the_connection_stays_in_step() {
    let door = door::open();
    let mut stream = door.connect();
    for (target, status) in [("/healthz", 200), ("/webhook/call-result", 405), ("/nowhere", 404)] {
        stream.write_all(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(read_answer_to(&mut stream, true).unwrap().status, status);
    }
    stream.write_all(&post(GOOD_BODY, "")).unwrap();
    check(&read_answer(&mut stream).unwrap(), 200, "Received");
    door.close();
}

#[test]
fn a_connection_is_kept_alive_as_long_as_the_client_wants() {
    let door = door::open();
    let mut stream = door.connect();
    for _ in 0..3 {
        stream.write_all(&post(GOOD_BODY, "")).unwrap();
        let answer = read_answer(&mut stream).unwrap();
        assert!(answer.status == 200 && !answer.closes(), "{answer:?}");
    }
    stream.write_all(&post(GOOD_BODY, "Connection: close\r\n")).unwrap();
    assert!(read_answer(&mut stream).unwrap().closes());
    assert!(door::read_to_end(&mut stream).1.is_empty());
    let old = |headers: &str| {
        let length = GOOD_BODY.len();
        format!("POST /webhook/call-result HTTP/1.0\r\nContent-Length: {length}\r\n{headers}\r\n{GOOD_BODY}")
    };
    let answer = door.ask(old("").as_bytes());
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    let answer = door.ask(old("Connection: keep-alive\r\n").as_bytes());
    assert!(answer.status == 200 && answer.header("Connection") == Some("keep-alive"), "{answer:?}");
    door.close();
}

#[test]
fn pipelined_requests_are_kept_and_answered_in_order() {
    const COUNT: usize = 500;
    let door = door::open();
    let mut stream = door.connect();
    let mut all = Vec::new();
    for index in 0..COUNT {
        // Every kind of way through the intake: small, slow lane, refused.
        let body = format!("{{\"contactId\":\"{index}\",\"dispositionCode\":\"1\"}}");
        all.extend(match index % 5 {
            1 => post(&format!("{body}{}", " ".repeat(2000)), ""),
            2 => post("{}", ""),
            3 => get("/healthz", ""),
            _ => post(&body, ""),
        });
    }
    stream.write_all(&all).unwrap();
    for index in 0..COUNT {
        let expected = if index % 5 == 2 { 400 } else { 200 };
        assert_eq!(read_answer(&mut stream).expect("an answer").status, expected, "request {index}");
    }
    let kept: Vec<usize> = door.kept.lock().unwrap().iter().map(|k| k.contact_id.parse().unwrap()).collect();
    let sent: Vec<usize> = (0..COUNT).filter(|index| !matches!(index % 5, 2 | 3)).collect();
    assert_eq!(kept, sent);
    door.close();
}

#[test]
fn expect_100_continue_is_served_and_refused_before_the_body() {
    let door = door::open();
    let mut stream = door.connect();
    let head = |length| {
        format!(
            "POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    stream.write_all(head(GOOD_BODY.len()).as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 100);
    stream.write_all(GOOD_BODY.as_bytes()).unwrap();
    check(&read_answer(&mut stream).unwrap(), 200, "Received");
    // The body is never sent: the answer must not wait for it.
    check(&door.ask(head(100_000).as_bytes()), 413, "Payload too large");
    door.close();
}

#[test]
fn what_cannot_be_kept_is_answered_503_with_retry_after() {
    let door = door::open();
    *door.answer.lock().unwrap() = Some(Receipt::NotKept { retry_after_s: 17 });
    let answer = door.post(GOOD_BODY);
    check(&answer, 503, "Try again later");
    assert_eq!(answer.header("Retry-After"), Some("17"));
    *door.answer.lock().unwrap() = Some(Receipt::Duplicate(1));
    check(&door.post(GOOD_BODY), 200, "Received");
    assert_eq!(door.kept_count(), 0);
    door.close();
}

#[test]
fn a_full_keeper_means_503_at_once_and_the_rest_is_answered_later() {
    const ROOM: usize = 4;
    let config = door::config();
    let listener = dispod::listener::Bound::bind(&config.listen, config.socket_mode).unwrap();
    let door = door::open_on(listener, &config, ROOM);
    door.held.store(true, SeqCst);
    let mut waiting: Vec<_> = (0..=ROOM).map(|_| door.connect()).collect();
    for stream in &mut waiting {
        stream.write_all(&post(GOOD_BODY, "")).unwrap();
    }
    // The keeper holds one and the queue the others; as long as one of ours got in before them, ask again.
    door::eventually("the keeper is full", || {
        let mut stream = door.connect();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.write_all(&post(GOOD_BODY, "")).unwrap();
        let mut start = [0; 12];
        let answered = std::io::Read::read_exact(&mut stream, &mut start).is_ok();
        waiting.push(stream);
        answered && &start == b"HTTP/1.1 503"
    });
    // The health of the daemon is another matter.
    check(&door.ask(&get("/healthz", "")), 200, "ok");
    waiting.pop();
    door.held.store(false, SeqCst);
    for mut stream in waiting {
        stream.set_read_timeout(Some(door::PATIENCE)).unwrap();
        assert!(matches!(read_answer(&mut stream).unwrap().status, 200 | 503));
    }
    // One more if the keeper had taken one before the queue was full.
    assert!(door.kept_count() >= ROOM);
    door.close();
}

#[test]
fn a_refusal_behind_a_waiting_answer_holds_up_nobody_else() {
    let door = door::open();
    door.held.store(true, SeqCst);
    let mut stream = door.connect();
    stream.write_all(&[post(GOOD_BODY, ""), get("/nowhere", ""), post(GOOD_BODY, "")].concat()).unwrap();
    let mut other = door.connect();
    other.write_all(&post(GOOD_BODY, "")).unwrap();
    door.held.store(false, SeqCst);
    for status in [200, 404, 200] {
        assert_eq!(read_answer(&mut stream).unwrap().status, status);
    }
    assert_eq!(read_answer(&mut other).unwrap().status, 200);
    door.close();
}

#[test]
fn healthz_tells_whether_events_can_be_kept() {
    let door = door::open();
    door.health.set_store_failing(true);
    check(&door.ask(&get("/healthz", "")), 503, "Try again later");
    assert_eq!(door.intake.probe(door::PATIENCE).unwrap(), 503);
    door.health.set_store_failing(false);
    check(&door.ask(&get("/healthz?x", "")), 200, "ok");
    assert_eq!(door.intake.probe(door::PATIENCE).unwrap(), 200);
    let posted = door.ask(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((posted.status, posted.header("Allow")), (405, Some("GET, HEAD")));
    door.close();
}

#[test]
fn the_key_is_the_first_of_the_three_headers_or_the_content() {
    let door = door::open();
    let no_timestamp = r#"{"contactId":"1","dispositionCode":"2"}"#;
    for (body, headers) in [
        (GOOD_BODY, "ce-id: c\r\nIdempotency-Key: i\r\nwebhook-id: w\r\n"),
        (GOOD_BODY, "ce-id: c\r\nidempotency-key: i\r\n"),
        (GOOD_BODY, "CE-ID: c\r\nwebhook-id:\r\n"),
        (GOOD_BODY, ""),
        (no_timestamp, ""),
    ] {
        check(&door.ask(&post(body, headers)), 200, "Received");
    }
    let keys: Vec<_> = door.kept.lock().unwrap().iter().map(|kept| kept.key).collect();
    let header = |value| Some(DedupeKey::from_header(value));
    let content = DedupeKey::from_content(&dispod::event::CallResult::parse(GOOD_BODY.as_bytes()).unwrap());
    assert_eq!(keys, [header("w"), header("i"), header("c"), content, None]);
    door.close();
}

fn with_auth(auth: WebhookAuth, secrets: &[&str]) -> Door {
    let secrets = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    door::open_with(&WebhookConfig { auth, secrets, ..door::config() })
}

#[test]
fn a_bearer_secret_is_rotated_without_a_gap() {
    let door = with_auth(WebhookAuth::Bearer, &["old"]);
    let with = |secret: &str| door.ask(&post(GOOD_BODY, &format!("Authorization: Bearer {secret}\r\n")));
    check(&with("old"), 200, "Received");
    check(&with("new"), 401, "Unauthorized");
    door.intake.replace_secrets(vec![Secret::new("new"), Secret::new("old")]);
    check(&with("old"), 200, "Received");
    check(&with("new"), 200, "Received");
    door.intake.replace_secrets(vec![]);
    check(&with("new"), 200, "Received");
    door.intake.replace_secrets(vec![Secret::new("new")]);
    check(&with("old"), 401, "Unauthorized");
    check(&door.post(GOOD_BODY), 401, "Unauthorized");
    assert_eq!(door.metrics.auth_failure(AuthFailure::Mismatch).get(), 2);
    assert_eq!(door.metrics.auth_failure(AuthFailure::Missing).get(), 1);
    // Who is not authenticated is told so before anything of a body is read, and nothing of what is wrong with it.
    check(
        &door.ask(b"POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"),
        401,
        "Unauthorized",
    );
    door.close();
}

#[test]
fn a_signed_body_is_taken_in_both_ways_through_the_intake() {
    let door = with_auth(WebhookAuth::HmacSha256, &["It's a Secret to Everybody"]);
    let sign = |body: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        let tag = ring::hmac::sign(&key, body.as_bytes());
        let hex: Vec<String> = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("X-Hub-Signature-256: sha256={}\r\n", hex.concat())
    };
    let large = format!("{GOOD_BODY}{}", " ".repeat(3000));
    for body in [GOOD_BODY, &large] {
        check(&door.ask(&post(body, &sign(body))), 200, "Received");
        check(&door.ask(&post(body, &sign("other"))), 401, "Unauthorized");
        check(&door.post(body), 401, "Unauthorized");
    }
    door.close();
}

#[test]
fn standard_webhooks_over_the_wire() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let door = with_auth(WebhookAuth::StandardWebhooks, &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let key = base64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signed = |at_s: u64| {
        let tag = ring::hmac::sign(&key, format!("msg_1.{at_s}.{GOOD_BODY}").as_bytes());
        let signature = base64.encode(tag);
        post(
            GOOD_BODY,
            &format!(
                "webhook-id: msg_1\r\nwebhook-timestamp: {at_s}\r\nwebhook-signature: v2,x v1,{signature}\r\n"
            ),
        )
    };
    check(&door.ask(&signed(now_s)), 200, "Received");
    check(&door.ask(&signed(now_s - 1000)), 401, "Unauthorized");
    assert_eq!(door.metrics.auth_failure(AuthFailure::Stale).get(), 1);
    assert_eq!(door.kept.lock().unwrap()[0].key, Some(DedupeKey::from_header("msg_1")));
    door.close();
}

#[test]
fn stopping_refuses_new_events_and_answers_what_is_kept() {
    let door = door::open();
    door.held.store(true, SeqCst);
    let mut waiting = door.connect();
    waiting.write_all(&post(GOOD_BODY, "")).unwrap();
    let mut idle = door.connect();
    idle.write_all(&get("/healthz", "")).unwrap();
    assert_eq!(read_answer(&mut idle).unwrap().status, 200);
    door.intake.stop_taking();
    idle.write_all(&post(GOOD_BODY, "")).unwrap();
    let refused = read_answer(&mut idle).unwrap();
    check(&refused, 503, "Try again later");
    assert!(refused.closes() && refused.header("Retry-After").is_some());
    assert!(door::read_to_end(&mut idle).1.is_empty());
    door::eventually("the listener is shut", || std::net::TcpStream::connect(door.addr()).is_err());
    door.held.store(false, SeqCst);
    let kept = read_answer(&mut waiting).unwrap();
    assert!(kept.status == 200 && kept.closes(), "{kept:?}");
    door.close();
}
