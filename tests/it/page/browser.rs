//! Chromium without a head, driven by `ChromeDriver` (W3C `WebDriver`, <https://www.w3.org/TR/webdriver2/>).

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::daemon::TempDir;
use crate::support::{http, tools};

/// How `WebDriver` names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The window's height, for every width.
const HEIGHT: u32 = 2400;
/// Between two scripts run in the page.
const PAUSE: Duration = Duration::from_millis(100);
/// What `ChromeDriver` says before the port it got.
const STARTED: &str = "was started successfully on port ";

/// A browser with one window; ended on drop.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    // Last: the browser's files.
    _profile: TempDir,
}

impl Browser {
    /// `None`, said aloud, where there is no Chromium.
    pub fn start() -> Option<Self> {
        if !tools::present(&["chromium", "chromedriver"]) {
            return None;
        }
        let profile = TempDir::new();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", profile.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own, so that the browser's processes end with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut driver = command.spawn().unwrap();
        let said = BufReader::new(driver.stdout.take().unwrap());
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, after) = line.split_once(STARTED)?;
            after.trim_end_matches('.').parse().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("ChromeDriver starts")));
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ];
        let always = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let session = browser.post("/session", &json!({ "capabilities": { "alwaysMatch": always } }));
        browser.session = format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let headers = [("Content-Type", "application/json"), ("Connection", "close")];
        let path = format!("{}{path}", self.session);
        let answer = http::request(self.address, "POST", &path, &headers, body.to_string().as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{path} {body}: {value}");
        value["value"].take()
    }

    /// Goes to a page.
    pub fn open(&mut self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a function's body in JavaScript returns.
    pub fn run(&mut self, body: &str) -> Value {
        // A page that is asked without a pause gets nothing else done.
        std::thread::sleep(PAUSE);
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// The text of the element with this id.
    pub fn text(&mut self, id: &str) -> String {
        let text = self.run(&format!("return document.getElementById({}).textContent", json!(id)));
        text.as_str().expect("text").to_owned()
    }

    fn element(&mut self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Clicks on an element as a person would: it must be in sight and not covered.
    pub fn click(&mut self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    pub fn type_into(&mut self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Makes the window so wide, for a person who likes it `light` or `dark`.
    pub fn look(&mut self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": false });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (cmd, params) in
            [("Emulation.setDeviceMetricsOverride", metrics), ("Emulation.setEmulatedMedia", media)]
        {
            self.post("/goog/cdp/execute", &json!({ "cmd": cmd, "params": params }));
        }
    }

    /// What is to be seen, as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let shot = self.post("/goog/cdp/execute", &json!({ "cmd": "Page.captureScreenshot", "params": {} }));
        STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// That the console holds no complaint.
    pub fn assert_silent(&mut self) {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let complaints: Vec<_> = log
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")))
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let headers = [("Connection", "close")];
            let _ = http::request(self.address, "DELETE", &self.session, &headers, b"");
        }
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}
