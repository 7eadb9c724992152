//! The status page in a real browser: it loads without a complaint, its numbers move, a dead letter is retried by a
//! click, a contact's story is found, and it fits a telephone.

mod browser;

use dispod::sandbox::{Reply, Sandbox, SandboxOptions};
use serde_json::json;

use crate::support::daemon::{Daemon, config_for};
use crate::support::{SOON, wait_until};
use browser::Browser;

/// CSS pixels, of a small telephone and of a desk.
const NARROW: u32 = 360;
const WIDE: u32 = 1200;

/// Where the pictures go, when somebody wants to look at them.
const PICTURES: &str = "DISPOD_TEST_PICTURES";

struct Desk {
    browser: Browser,
    daemon: Daemon,
    sandbox: Sandbox,
}

/// The page of a daemon with some history: deliveries and one dead letter, of `gone`.
fn open() -> Option<Desk> {
    let mut browser = Browser::start()?;
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    sandbox.script("gone", &[Reply::Status(404)]).unwrap();
    let daemon = Daemon::start(&config_for(&sandbox));
    post(&daemon, "gone", "1001");
    for contact in 1..=5 {
        post(&daemon, &format!("contact-{contact}"), "2001");
    }
    assert!(sandbox.wait_until(|stats| stats.updates == 5, SOON));
    browser.open(&format!("http://{}/", daemon.admin_addr()));
    Some(Desk { browser, daemon, sandbox })
}

fn post(daemon: &Daemon, contact: &str, code: &str) {
    assert_eq!(daemon.post(&format!(r#"{{"contactId":"{contact}","dispositionCode":"{code}"}}"#)).0, 200);
}

/// Waits until the element with this id shows exactly this.
fn wait_for_text(browser: &mut Browser, id: &str, text: &str) {
    let mut shown = String::new();
    let as_wanted = wait_until(SOON, || {
        shown = browser.text(id);
        shown == text
    });
    assert!(as_wanted, "#{id} shows {shown:?} instead of {text:?}");
}

#[test]
fn it_shows_what_happens_as_it_happens() {
    let Some(mut desk) = open() else { return };
    let Desk { browser, daemon, .. } = &mut desk;
    wait_for_text(browser, "kept", "6");
    wait_for_text(browser, "delivered", "5");
    wait_for_text(browser, "dead", "1");
    wait_for_text(browser, "live", "live");
    post(daemon, "contact-live", "1001");
    wait_for_text(browser, "kept", "7");
    wait_for_text(browser, "delivered", "6");
    let heard = |browser: &mut Browser| browser.text("feed").contains("contact-live");
    assert!(wait_until(SOON, || heard(browser)), "{}", browser.text("feed"));
    browser.assert_silent();
}

#[test]
fn a_dead_letter_is_retried_by_a_click() {
    let Some(mut desk) = open() else { return };
    let Desk { browser, sandbox, .. } = &mut desk;
    wait_for_text(browser, "dead", "1");
    let row = "document.querySelector('#letters tbody tr button[aria-label^=Retry]')";
    assert!(wait_until(SOON, || browser.run(&format!("return {row} !== null")) == json!(true)));
    browser.click("#letters tbody tr button[aria-label^=Retry]");
    browser.click("#ask-yes");
    assert!(wait_until(SOON, || sandbox.contact("gone").is_some_and(|contact| contact.custom.is_some())));
    wait_for_text(browser, "dead", "0");
    assert_eq!(browser.run(&format!("return {row} === null")), json!(true), "its row is still there");
    browser.assert_silent();
}

#[test]
fn a_contacts_story_is_found() {
    let Some(mut desk) = open() else { return };
    let Desk { browser, .. } = &mut desk;
    browser.type_into("#contact", "gone\u{e007}");
    let told = |browser: &mut Browser| browser.text("stories").contains("404");
    assert!(wait_until(SOON, || told(browser)), "{}", browser.text("stories"));
    assert!(browser.text("stories").contains("do_not_call"));
    browser.assert_silent();
}

#[test]
fn it_fits_a_telephone_and_both_schemes() {
    let Some(mut desk) = open() else { return };
    let Desk { browser, .. } = &mut desk;
    wait_for_text(browser, "dead", "1");
    let mut grounds = Vec::new();
    for (width, scheme) in [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")] {
        browser.look(width, scheme);
        let overflow = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
        assert!(overflow.as_i64().unwrap() <= 0, "{overflow} px too wide at {width}");
        grounds.push(browser.run("return getComputedStyle(document.documentElement).backgroundColor"));
        if let Some(dir) = std::env::var_os(PICTURES) {
            let name = format!("page-{width}-{scheme}.png");
            std::fs::write(std::path::Path::new(&dir).join(name), browser.picture()).unwrap();
        }
    }
    assert_ne!(grounds[0], grounds[1], "light and dark look the same");
    browser.assert_silent();
}
