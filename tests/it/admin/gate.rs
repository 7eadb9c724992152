//! Who may ask, what for, and how it is said when not.

use std::io::Write;

use serde_json::Value;

use super::office::{Office, SECRET, with_dead};
use crate::door::read_answer;

#[test]
fn no_web_page_can_change_anything() {
    let office = with_dead(&["1"]);
    let id = &office.dead_ids()[0];
    let own = format!("Origin: http://{}\r\n", office.addr);
    for line in [
        format!("POST /api/dead/{id}/retry"),
        format!("DELETE /api/dead/{id}"),
        "POST /api/dead/retry".to_owned(),
        "POST /api/dead/drop".to_owned(),
    ] {
        for headers in [
            "",
            "X-Dispod: 2\r\n",
            "X-Dispod: 1, 1\r\n",
            "X-Dispod: 1\r\nX-Dispod: 1\r\n",
            "X-Dispod: 1\r\nOrigin: http://evil.example\r\n",
            "X-Dispod: 1\r\nOrigin: null\r\n",
            "X-Dispod: 1\r\nOrigin: http://127.0.0.1:1\r\n",
            "X-Dispod: 1\r\nSec-Fetch-Site: cross-site\r\n",
            "X-Dispod: 1\r\nSec-Fetch-Site: same-site\r\n",
        ] {
            assert_eq!(office.ask_with(&line, headers).status, 403, "{line} {headers}");
        }
        let rebound = office.ask_with(&line, "Host: evil.example\r\nX-Dispod: 1\r\n");
        assert_eq!(rebound.status, 421, "{line}");
    }
    assert_eq!(office.dead_ids().len(), 1);
    let headers = format!("X-Dispod: 1\r\nSec-Fetch-Site: same-origin\r\n{own}");
    assert_eq!(office.ask_with(&format!("POST /api/dead/{id}/retry"), &headers).status, 200);
}

#[test]
fn other_sites_and_names_are_refused_for_reading_too() {
    let office = Office::open();
    let with = |path: &str, headers: &str| office.ask_with(&format!("GET {path}"), headers);
    for path in ["/api/status", "/api/dead", "/api/events", "/api/audit?contact=1"] {
        assert_eq!(with(path, "Sec-Fetch-Site: cross-site\r\n").status, 403, "{path}");
        assert_eq!(with(path, "Origin: https://evil.example\r\n").status, 403, "{path}");
    }
    // A link on another site may lead to the page.
    assert_eq!(with("/", "Sec-Fetch-Site: cross-site\r\n").status, 200);
    for path in ["/", "/livez", "/metrics", "/api/status", "/nowhere"] {
        assert_eq!(with(path, "Host: evil.example\r\n").status, 421, "{path}");
        assert_eq!(with(path, "Host: 127.0.0.1.evil.example:80\r\n").status, 421, "{path}");
        assert_eq!(with(path, "Host: localhost\r\nHost: evil.example\r\n").status, 400, "{path}");
    }
    for host in ["localhost", "localhost:1234", "127.0.0.1", "[::1]:9090"] {
        assert_eq!(with("/livez", &format!("Host: {host}\r\n")).status, 200, "{host}");
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    let office = Office::open();
    for path in ["/favicon.ico", "/api", "/api/dead/x", "/api/dead/", "/api/dead/1/retry/2", "/healthz", "//"]
    {
        assert_eq!(office.get(path).status, 404, "{path}");
    }
    for (line, allowed) in [
        ("POST /", "GET, HEAD"),
        ("DELETE /api/dead", "GET, HEAD"),
        ("PUT /api/dead/1", "GET, HEAD, DELETE"),
        ("GET /api/dead/1/retry", "POST"),
        ("OPTIONS /api/status", "GET, HEAD"),
        ("get /livez", "GET, HEAD"),
    ] {
        let answer = office.change(line);
        assert_eq!((answer.status, answer.header("Allow")), (405, Some(allowed)), "{line}");
    }
    for path in [
        "/api/dead?limit=0",
        "/api/dead?limit=1001",
        "/api/dead?after=-1",
        "/api/dead?contact=1",
        "/api/audit",
        "/api/audit?contact=",
        "/api/audit?contact=1&contact=2",
        "/api/audit?contact=%ff",
        "/api/audit?contact=1&limit=101",
        "/api/events?severity=all",
        "/api/status?x",
    ] {
        let answer = office.ask_with(&format!("GET {path}"), "Accept: application/json\r\n");
        assert_eq!(answer.status, 400, "{path}");
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(said["error"].as_str().unwrap().starts_with("Invalid "), "{path}: {said}");
    }
    let answer = office.change("POST /api/dead/retry?contact=7");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (400, "Invalid contact: there is no such parameter here")
    );
    let mut stream = office.connect();
    let request = format!(
        "POST /api/dead/retry HTTP/1.1\r\nHost: {}\r\nX-Dispod: 1\r\nContent-Length: 2\r\n\r\n{{}}",
        office.addr
    );
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 400);
}

#[test]
fn the_page_is_held_to_itself() {
    let office = Office::open();
    let page = office.get("/");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("Content-Security-Policy").unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "script-src 'sha256-", "form-action 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for path in ["/", "/livez", "/metrics", "/api/status", "/nowhere"] {
        let answer = office.get(path);
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{path}");
        assert!(!answer.body.contains(SECRET), "{path}");
    }
}
