//! No secret and no token is logged, however much is logged.

use super::*;
use crate::support::http;

const SECRET: &str = "s3cr3t-of-the-client";
/// How every token of the sandbox begins; its addresses and names do not.
const TOKEN: &str = "sandbox.";
const SENDER: &str = "s3cr3t-of-the-sender";

#[test]
fn nothing_secret_is_logged_at_any_level() {
    for format in ["text", "json"] {
        let sandbox = sandbox(|options| options.client_secret = dispod::config::Secret::new(SECRET));
        let mut daemon = daemon(
            &sandbox,
            &[
                ("RUST_LOG", "trace"),
                ("DISPOD_LOG_FORMAT", format),
                ("DISPOD_CXONE_CLIENT_SECRET", SECRET),
                ("DISPOD_WEBHOOK_AUTH", "bearer"),
                ("DISPOD_WEBHOOK_SECRET", SENDER),
            ],
        );
        let body = event("1", "1001");
        let post = |authorization: &str| {
            let headers = [("Authorization", authorization), ("Connection", "close")];
            let address = daemon.webhook_addr();
            let path = "/webhook/call-result";
            http::request(address, "POST", path, &headers, body.as_bytes()).unwrap().status
        };
        assert_eq!((post(&format!("Bearer {SENDER}")), post(&format!("Bearer {SENDER}x"))), (200, 401));
        wait_updates(&sandbox, 1);
        sandbox.revoke();
        assert_eq!(post(&format!("Bearer {SENDER}")), 200);
        wait_updates(&sandbox, 2);
        assert_eq!(sandbox.stats().tokens_issued, 2);
        assert_eq!(daemon.admin("GET", "/api/status").status, 200);
        daemon.sighup();
        daemon.wait_for_log("configuration reloaded");
        assert!(daemon.sigterm().success());
        assert!(daemon.log_count("") > 5, "hardly anything was logged");
        for secret in [SECRET, SENDER, TOKEN] {
            assert!(!daemon.log_contains(secret), "{secret} is in the log");
        }
    }
}
