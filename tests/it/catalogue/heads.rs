//! Request lines and headers to misuse.

use super::Answers::{NoMatter, Nothing, Status};
use super::{Case, line, raw};
use crate::door::GOOD_BODY;

pub(super) fn request_lines() -> Vec<Case> {
    let path = "/webhook/call-result";
    vec![
        Case::new("nothing at all", "", Nothing),
        Case::new("one CR LF", "\r\n", NoMatter),
        Case::new("empty lines only", "\r\n".repeat(1000), NoMatter),
        Case::new("no version", line(&format!("POST {path}")), Status(400)),
        Case::new("HTTP/2.0", line(&format!("POST {path} HTTP/2.0")), Nothing).sticks(),
        Case::new("HTTP/3.0", line(&format!("POST {path} HTTP/3.0")), Nothing).sticks(),
        Case::new("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", Nothing)
            .sticks(),
        Case::new("HTTP/0.9", line(&format!("POST {path} HTTP/0.9")), Status(200)).keeps(1),
        Case::new("HTTP/1.2", line(&format!("POST {path} HTTP/1.2")), Status(400)).mendable(),
        Case::new("HTTP/11.1", line(&format!("POST {path} HTTP/11.1")), Status(400)),
        Case::new("lower-case version", line(&format!("POST {path} http/1.1")), Status(400)),
        Case::new("lower-case method", line(&format!("post {path} HTTP/1.1")), Status(405)),
        Case::new("unknown method", line(&format!("FROB {path} HTTP/1.1")), Status(405)),
        Case::new("method of 60 KB", line(&format!("{} {path} HTTP/1.1", "M".repeat(60_000))), NoMatter),
        Case::new(
            "CONNECT",
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
            Status(404),
        ),
        Case::new("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Status(404)),
        Case::new("TRACE", line(&format!("TRACE {path} HTTP/1.1")), Status(405)),
        Case::new("PUT", line(&format!("PUT {path} HTTP/1.1")), Status(405)),
        Case::new("absolute form", line(&format!("POST http://x{path} HTTP/1.1")), Status(200)).keeps(1),
        Case::new("absolute form, no path", line("POST http://x HTTP/1.1"), Status(404)),
        Case::new("authority form", line("POST x:80 HTTP/1.1"), Status(404)),
        Case::new("dot segments", line(&format!("POST /a/..{path} HTTP/1.1")), Status(404)).mendable(),
        Case::new("encoded path", line("POST /webhook%2fcall-result HTTP/1.1"), Status(404)).mendable(),
        Case::new("double slash", line(&format!("POST /{path} HTTP/1.1")), Status(404)).mendable(),
        Case::new("NUL in the path", line("POST /webhook\0/call-result HTTP/1.1"), Status(404)),
        Case::new(
            "non-UTF-8 in the path",
            [b"POST /\xff\xfe".to_vec(), line(" HTTP/1.1")].concat(),
            NoMatter,
        ),
        Case::new("path of 1 MB", line(&format!("POST /{} HTTP/1.1", "a".repeat(1_000_000))), NoMatter),
        Case::new("tabs for spaces", line(&format!("POST\t{path}\tHTTP/1.1")), Status(400)),
        Case::new("two spaces", line(&format!("POST  {path} HTTP/1.1")), Status(400)).mendable(),
        Case::new("LF only", format!("POST {path} HTTP/1.1\nHost: x\nContent-Length: 2\n\n{{}}"), Nothing)
            .mendable(),
        Case::new("CR only", format!("POST {path} HTTP/1.1\rHost: x\rContent-Length: 2\r\r{{}}"), Nothing),
        Case::new("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Nothing),
        Case::new("SSH hello", "SSH-2.0-OpenSSH_9.6\r\n", Status(400)),
        Case::new(
            "random bytes",
            (0..100_000u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>(),
            NoMatter,
        ),
    ]
}

pub(super) fn headers() -> Vec<Case> {
    let good = format!("Content-Length: {}\r\n", GOOD_BODY.len());
    let with = |extra: &str| raw(&format!("{good}{extra}"), GOOD_BODY);
    vec![
        Case::new("one header of 300 KB", with(&format!("X: {}\r\n", "a".repeat(300_000))), NoMatter)
            .mendable(),
        Case::new("one header of 20 MB", with(&format!("X: {}\r\n", "a".repeat(20_000_000))), NoMatter),
        Case::new("header name of 20 MB", with(&"a".repeat(20_000_000)), NoMatter),
        Case::new("20,000 headers", with(&"X: y\r\n".repeat(20_000)), NoMatter).mendable(),
        Case::new("1,000,000 headers", with(&"X: y\r\n".repeat(1_000_000)), NoMatter),
        Case::new("no colon", with("nonsense\r\n"), Status(400)).mendable(),
        Case::new("empty name", with(": x\r\n"), Status(400)).mendable(),
        Case::new("space before the colon", with("X : y\r\n"), Status(400)).mendable(),
        Case::new("folded line", with("X: a\r\n b\r\n"), NoMatter),
        Case::new("NUL in a value", with("X: a\0b\r\n"), Status(400)),
        Case::new("NUL in a name", with("X\0: a\r\n"), Status(400)).mendable(),
        Case::new("bare CR in a value", with("X: a\rb\r\n"), Status(400)),
        Case::new("bare LF in a value", with("X: a\nContent-Length: 3\r\n"), Status(400)).mendable(),
        Case::new("DEL in a value", with("X: a\u{7f}\r\n"), Status(400)).mendable(),
        Case::new("non-ASCII in a value", with("X: \u{e4}\r\n"), Nothing).mendable(),
        Case::new("non-UTF-8 in a value", raw_bytes(&good, b"X: \xff\xfe\r\n"), Nothing).mendable(),
        Case::new("non-ASCII in a name", with("X\u{e4}: a\r\n"), Nothing).mendable(),
        Case::new("parentheses in a name", with("X(y): a\r\n"), Status(400)).mendable(),
        Case::new("tab in a value", with("X: a\tb\r\n"), Status(200)).keeps(1),
        Case::new(
            "no Host",
            format!("POST /webhook/call-result HTTP/1.1\r\n{good}\r\n{GOOD_BODY}"),
            Status(200),
        )
        .keeps(1),
        Case::new("two Hosts", with("Host: y\r\n"), Status(200)).keeps(1),
        Case::new("upgrade to WebSocket", with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), Status(400))
            .mendable(),
        Case::new(
            "upgrade to h2c",
            with(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ),
            Status(400),
        )
        .mendable(),
        Case::new(
            "upgrade with a huge length",
            raw("Content-Length: 30000000000\r\nConnection: upgrade\r\nUpgrade: x\r\n", ""),
            Status(400),
        )
        .sticks(),
        Case::new("connection upgrade alone", with("Connection: upgrade\r\n"), Status(400)).mendable(),
        Case::new("unknown expectation", with("Expect: the-worst\r\n"), Status(417)).mendable(),
        Case::new(
            "expectation without a body",
            raw("Content-Length: 5\r\nExpect: 100-continue\r\n", ""),
            Status(100),
        ),
        Case::new(
            "expectation with a huge length",
            raw("Content-Length: 30000000000\r\nExpect: 100-continue\r\n", ""),
            Status(413),
        )
        .sticks(),
        Case::new(
            "authorization of 30 KB",
            with(&format!("Authorization: {}\r\n", "a".repeat(30_000))),
            Status(200),
        )
        .keeps(1),
        Case::new("key of 8 KB", with(&format!("Idempotency-Key: {}\r\n", "k".repeat(8000))), Status(200))
            .keeps(1),
    ]
}

fn raw_bytes(headers: &str, extra: &[u8]) -> Vec<u8> {
    let start = format!("POST /webhook/call-result HTTP/1.1\r\nHost: x\r\n{headers}");
    [start.as_bytes(), extra, b"\r\n", GOOD_BODY.as_bytes()].concat()
}
