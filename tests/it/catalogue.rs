//! The catalogue of bad requests: raw bytes, how the client ends, and what may come of it. To be sent at the
//! webhook bare, through a proxy, and at the admin listener.

use std::sync::{Mutex, PoisonError};

use crate::door::{GOOD_BODY, post};

mod heads;

/// One way to misuse an HTTP server.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub end: Ending,
    /// What the bare webhook answers first.
    pub answer: Answers,
    /// Events the bare webhook keeps of it.
    pub keeps: usize,
    /// A proxy may make a good request of it.
    pub proxy_may_mend: bool,
    /// Leaves a stuck thread behind in the bare webhook, up to its cap.
    pub sticks: bool,
}

/// What the client does after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Ends its side and reads on.
    Finish,
    /// Ends the connection at once, reading nothing.
    Leave,
    /// Resets the connection.
    Reset,
}

/// What may be answered first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// This status.
    Status(u16),
    /// Nothing: the connection ends.
    Nothing,
    /// Anything but 200.
    NoMatter,
}

use Answers::{NoMatter, Nothing, Status};

impl Case {
    fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, answer: Answers) -> Self {
        Self {
            name: name.into(),
            bytes: bytes.into(),
            end: Ending::Finish,
            answer,
            keeps: 0,
            proxy_may_mend: false,
            sticks: false,
        }
    }

    fn keeps(self, keeps: usize) -> Self {
        Self { keeps, proxy_may_mend: true, ..self }
    }

    fn mendable(self) -> Self {
        Self { proxy_may_mend: true, ..self }
    }

    fn sticks(self) -> Self {
        Self { sticks: true, ..self }
    }

    fn ends(self, end: Ending) -> Self {
        Self { end, ..self }
    }
}

/// A POST to the webhook with these header lines (each ended by CR LF) and body.
fn raw(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /webhook/call-result HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").into_bytes()
}

fn with_length(length: &str) -> Vec<u8> {
    raw(&format!("Content-Length: {length}\r\n"), GOOD_BODY)
}

/// Something else in the place of the request line.
fn line(line: &str) -> Vec<u8> {
    let length = GOOD_BODY.len();
    format!("{line}\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{GOOD_BODY}").into_bytes()
}

/// All cases.
pub fn all() -> Vec<Case> {
    let cases =
        [lengths(), codings(), heads::request_lines(), heads::headers(), bodies(), connections(), cuts()]
            .concat();
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.iter().all(|case| case.keeps == 0 || case.proxy_may_mend), "what is good stays good");
    cases
}

/// Does something with each of them, with so many at once: a server may wait for the rest of one until its deadline.
pub fn each(cases: &[Case], at_once: usize, act: impl Fn(&Case) + Sync) {
    let queue = Mutex::new(cases.iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = next() {
                    act(case);
                }
            });
        }
    });
}

fn lengths() -> Vec<Case> {
    let exact = GOOD_BODY.len();
    let plus = format!("+{exact}");
    let mut cases = Vec::new();
    for odd in ["-1", "0x6f", "1e2", "111.0", "111,111", "111 111", "\"111\"", "eleven", "", "-0", "1_1"] {
        cases.push(Case::new(format!("length {odd:?}"), with_length(odd), Status(400)));
    }
    cases.extend([
        Case::new("length with a plus sign", with_length(&plus), Status(400)),
        Case::new("length over 64 bits", with_length("99999999999999999999"), Status(413)),
        Case::new("length of 400 digits", with_length(&"9".repeat(400)), Status(413)),
        Case::new("length 2^64-1", with_length("18446744073709551615"), Status(413)).sticks(),
        Case::new("length 2^63", with_length("9223372036854775808"), Status(413)).sticks(),
        Case::new("length 30 GB", with_length("30000000000"), Status(413)).sticks(),
        Case::new("length 1 TB, elsewhere", raw_elsewhere("Content-Length: 1000000000000\r\n"), Status(404))
            .sticks(),
        Case::new(
            "length 1 GB on GET",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
            Status(413),
        )
        .sticks(),
        Case::new("length 30 MB", with_length("30000000"), Status(413)).sticks(),
        Case::new("length 1 MiB", with_length("1048576"), Status(413)),
        Case::new("length one over the limit", with_length("65537"), Status(413)),
        Case::new("length with leading zeros", with_length(&format!("0000{exact}")), Status(200)).keeps(1),
        Case::new("length too long by one", with_length(&(exact + 1).to_string()), Nothing),
        Case::new("length too long, over 1024", with_length("2000"), Status(400)),
        Case::new("length too short by one", with_length(&(exact - 1).to_string()), Status(400)),
        Case::new("length zero, body sent", with_length("0"), Status(400)),
        Case::new("no length, body sent", raw("", GOOD_BODY), Status(411)),
        Case::new("no length, no body", raw("", ""), Status(411)),
        Case::new(
            "two equal lengths",
            raw(&format!("Content-Length: {exact}\r\nContent-Length: {exact}\r\n"), GOOD_BODY),
            Status(400),
        ),
        Case::new(
            "two lengths, the first good",
            raw(&format!("Content-Length: {exact}\r\nContent-Length: 5\r\n"), GOOD_BODY),
            Status(400),
        ),
        Case::new(
            "two lengths, the second huge",
            raw(&format!("Content-Length: {exact}\r\nContent-Length: 30000000000\r\n"), GOOD_BODY),
            Status(400),
        ),
        Case::new(
            "two lengths, the first huge",
            raw(&format!("Content-Length: 30000000000\r\nContent-Length: {exact}\r\n"), GOOD_BODY),
            Status(400),
        )
        .sticks(),
    ]);
    cases
}

fn raw_elsewhere(headers: &str) -> Vec<u8> {
    format!("POST /elsewhere HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    raw("Transfer-Encoding: chunked\r\n", body)
}

fn codings() -> Vec<Case> {
    let good = format!("{:x}\r\n{GOOD_BODY}\r\n0\r\n\r\n", GOOD_BODY.len());
    let smuggled = String::from_utf8(post(GOOD_BODY, "")).unwrap();
    let exact = format!("Content-Length: {}\r\n", GOOD_BODY.len());
    let te = "Transfer-Encoding: chunked\r\n";
    vec![
        Case::new("chunked, well formed", chunked(&good), Status(411)).mendable(),
        Case::new("chunked, upper case", raw("TRANSFER-ENCODING: Chunked\r\n", &good), Status(411))
            .mendable(),
        Case::new("chunked, gzip", raw("Transfer-Encoding: gzip, chunked\r\n", &good), Status(411)),
        Case::new("identity coding", raw("Transfer-Encoding: identity\r\n", GOOD_BODY), Status(411)),
        Case::new("unknown coding", raw("Transfer-Encoding: xchunked\r\n", &good), Status(411)),
        Case::new("chunked twice", raw(&format!("{te}{te}"), &good), Status(411)),
        Case::new("chunk of 2^60", chunked("1000000000000000\r\nx"), Status(411)),
        Case::new("chunk size over 64 bits", chunked("fffffffffffffffff\r\nx"), Status(411)),
        Case::new("chunk size negative", chunked("-5\r\nhello\r\n0\r\n\r\n"), Status(411)),
        Case::new("chunk size no number", chunked("zz\r\nhello\r\n0\r\n\r\n"), Status(411)),
        Case::new("chunk size flood", chunked(&"0".repeat(300_000)), Status(411)),
        Case::new(
            "chunk extension flood",
            chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a=b;".repeat(50_000))),
            Status(411),
        ),
        Case::new(
            "one-byte chunks",
            chunked(&format!("{}0\r\n\r\n", "1\r\n \r\n".repeat(20_000))),
            Status(411),
        ),
        Case::new("chunks without an end", chunked("5\r\nhello\r\n"), Status(411)),
        Case::new(
            "trailer flood",
            chunked(&format!("0\r\n{}\r\n", "X-T: y\r\n".repeat(20_000))),
            Status(411),
        ),
        Case::new("length and chunked", raw(&format!("{exact}{te}"), &good), Status(400)),
        Case::new("chunked and length", raw(&format!("{te}{exact}"), &good), Status(400)),
        Case::new(
            "huge length and chunked",
            raw(&format!("Content-Length: 30000000000\r\n{te}"), &good),
            Status(400),
        ),
        Case::new("request inside a chunked body", chunked(&format!("0\r\n\r\n{smuggled}")), Status(411))
            .mendable(),
        Case::new(
            "request behind length and chunked",
            raw(&format!("Content-Length: 4\r\n{te}"), &format!("0\r\n\r\n{smuggled}")),
            Status(400),
        ),
        Case::new("request behind an odd length", raw("Content-Length: 0x0\r\n", &smuggled), Status(400)),
        Case::new(
            "request behind two lengths",
            raw(&format!("Content-Length: 0\r\n{exact}"), &smuggled),
            Status(400),
        ),
        Case::new(
            "request behind a control character",
            raw("Content-Length: 0\r\nX: \u{1}\r\n", &smuggled),
            Status(400),
        )
        .mendable(),
        Case::new("request behind a spaced name", raw("Content-Length : 5\r\n", &smuggled), NoMatter),
    ]
}

fn bodies() -> Vec<Case> {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let long_id = format!(r#"{{"contactId":"{}","dispositionCode":"1"}}"#, "9".repeat(257));
    let long_number = format!(r#"{{"contactId":{},"dispositionCode":1}}"#, "9".repeat(60_000));
    let many = format!("{{{}\"contactId\":\"1\",\"dispositionCode\":\"2\"}}", r#""a":1,"#.repeat(9000));
    let mut cases = vec![
        Case::new("nested arrays", post(&deep, ""), Status(400)),
        Case::new("nested in an unknown member", post(&format!(r#"{{"x":{deep}}}"#), ""), Status(400)),
        Case::new("contactId over its limit", post(&long_id, ""), Status(400)),
        Case::new("number of 60,000 digits", post(&long_number, ""), Status(400)),
        Case::new("9,000 unknown members", post(&many, ""), Status(200)).keeps(1),
        Case::new(
            "NUL in a string",
            post(r#"{"contactId":"\u0000","dispositionCode":"1"}"#, ""),
            Status(400),
        ),
        Case::new(
            "line end in a string",
            post(r#"{"contactId":"1\r\nX: y","dispositionCode":"1"}"#, ""),
            Status(400),
        ),
        Case::new("lone surrogate", post(r#"{"contactId":"\ud800","dispositionCode":"1"}"#, ""), Status(400)),
        Case::new("form encoded", post("contactId=1&dispositionCode=2", ""), Status(400)),
        Case::new("UTF-16", post("\u{feff}{\0}\0", ""), Status(400)),
    ];
    let mut invalid = post(GOOD_BODY, "");
    let at = invalid.len() - 10;
    invalid[at] = 0xff;
    cases.push(Case::new("body not UTF-8", invalid, Status(400)));
    cases
}

fn connections() -> Vec<Case> {
    let good = post(GOOD_BODY, "");
    let get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    vec![
        Case::new("connect and leave", "", Nothing).ends(Ending::Leave),
        Case::new("connect and reset", "", Nothing).ends(Ending::Reset),
        Case::new("half a line and reset", "POST /webh", Nothing).ends(Ending::Reset),
        Case::new("head and reset", raw("Content-Length: 111\r\n", ""), Nothing).ends(Ending::Reset),
        Case::new("large head and reset", raw("Content-Length: 60000\r\n", "{"), Nothing).ends(Ending::Reset),
        Case::new("huge length and reset", with_length("30000000000"), Nothing).ends(Ending::Reset).sticks(),
        Case::new("pipelined good requests", good.repeat(20), Status(200)).keeps(20),
        Case::new("pipelined 5,000 questions", get.repeat(5000), NoMatter).mendable(),
        Case::new("good, then nonsense", [good.clone(), b"nonsense\r\n\r\n".to_vec()].concat(), Status(200))
            .keeps(1),
        Case::new(
            "good, then a huge length",
            [good.clone(), with_length("30000000000")].concat(),
            Status(200),
        )
        .keeps(1)
        .sticks(),
        Case::new("good, then HTTP/2.0", [good.clone(), line("POST / HTTP/2.0")].concat(), Status(200))
            .keeps(1)
            .sticks(),
        Case::new("good, then cut", [good.clone(), good[..40].to_vec()].concat(), Status(200)).keeps(1),
        Case::new(
            "nothing after Connection: close",
            [post(GOOD_BODY, "Connection: close\r\n"), good].concat(),
            Status(200),
        )
        .keeps(1),
    ]
}

/// A good request cut after each of its bytes.
fn cuts() -> Vec<Case> {
    let good = post(GOOD_BODY, "");
    let cut = |at: usize| Case::new(format!("cut after {at} bytes"), &good[..at], Nothing);
    (1..good.len()).map(cut).collect()
}
