//! Proves contract section 3: what a configuration may hold, what each mistake is answered with, that what is written
//! reads back to the same, and that no secret is ever shown.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dispod::Config;
use dispod::config::{Grant, Listen, Purpose, Secret, SubscriberTarget, WebhookAuth, reference};
use dispod::event::Severity;

/// In every secret of the test data, so that one that is shown is seen.
const MARK: &str = "hunter2";
/// In the secrets whose form leaves no room for the mark.
const WEBHOOK_MARK: &str = "MfKQ9r8G";
/// Enough to serve with, but for what a test adds.
const TENANT: &str = "[cxone]\nenvironment = \"tenant.example.com\"\nclient_id = \"hunter2-id\"\nclient_secret = \
                      \"hunter2-secret\"\n";

/// One case: its file, the TOML in it, the environment beside it.
type Case = (PathBuf, String, Vec<(String, String)>);

/// The cases of a directory under `tests/data`.
fn cases(directory: &str) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(directory);
    let files = fs::read_dir(&directory)
        .expect("the test data is there")
        .map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no case", directory.display());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        let environment = fs::read_to_string(path.with_extension("env")).unwrap_or_default();
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables: Vec<_> = environment.lines().map(|line| pair(line).expect("NAME=VALUE")).collect();
        (path, text, variables)
    };
    files.into_iter().map(read).collect()
}

/// The rows of the reference whose keys hold one value, which the environment can set too.
fn single_rows() -> Vec<String> {
    let single = |row: &&str| !row.contains('<') && !row.contains("[]");
    let rows: Vec<String> = reference().lines().skip(2).filter(single).map(str::to_owned).collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    rows
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

fn shows_secret(text: &str) -> bool {
    text.contains(MARK) || text.contains(WEBHOOK_MARK)
}

/// Compares with the file beside the case; with `BLESS` set, writes it.
fn same_as_expected(path: &Path, found: &str) {
    let expected = path.with_extension("expected");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expected, format!("{found}\n")).expect("writable");
    }
    let text = fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(found, text.trim_end_matches('\n'), "{}", name(path));
}

fn serve(text: &str, environment: &[(&str, &str)]) -> Result<Config, dispod::Error> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_parts(Some(("dispod.toml", text)), environment, Purpose::Serve)
}

#[test]
fn every_mistake_is_answered_with_its_place_and_what_is_allowed() {
    let cases = cases("invalid");
    assert!(cases.len() >= 30, "{} cases only", cases.len());
    for (path, text, environment) in cases {
        let file = name(&path);
        let result = Config::from_parts(Some((&file, &text)), environment, Purpose::Serve);
        let error = result.map(|config| config.to_toml()).expect_err(&file);
        assert!(error.is_config(), "{file}");
        assert_eq!(error.exit_status(), 78, "{file}");
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shows_secret(&shown), "{file} shows a secret: {shown}");
        }
        same_as_expected(&path, &error.to_string());
    }
}

#[test]
fn what_is_valid_is_rendered_and_reads_back_to_the_same() {
    for (path, text, environment) in cases("valid") {
        let file = name(&path);
        let config = Config::from_parts(Some((&file, &text)), environment, Purpose::Serve).expect(&file);
        let rendered = config.to_toml();
        same_as_expected(&path, rendered.trim_end());
        // The secrets are not in it, so it reads back for the local commands only.
        let again = Config::from_parts(Some((&file, &rendered)), [], Purpose::Local).expect(&file);
        assert_eq!(again.to_toml(), rendered, "{file}");
        assert_eq!(without_secrets(again), without_secrets(config), "{file}");
        Config::from_toml(&rendered).expect_err("three asterisks are no secret");
    }
}

fn without_secrets(mut config: Config) -> Config {
    let hide = |secret: &mut Secret| *secret = Secret::new("-");
    config.webhook.secrets.truncate(1);
    config.webhook.secrets.iter_mut().for_each(hide);
    hide(&mut config.cxone.client_id);
    hide(&mut config.cxone.client_secret);
    if let Grant::Password { username, password } = &mut config.cxone.grant {
        hide(username);
        hide(password);
    }
    for subscriber in &mut config.subscribers {
        if let SubscriberTarget::Webhook { secret, .. } = &mut subscriber.target {
            secret.iter_mut().for_each(hide);
        }
    }
    config
}

#[test]
fn no_secret_is_shown() {
    for (path, text, environment) in cases("valid") {
        let config = Config::from_parts(Some(("x", &text)), environment, Purpose::Serve).expect("valid");
        for shown in [format!("{config:?}"), format!("{config:#?}"), config.to_toml()] {
            assert!(!shows_secret(&shown), "{} shows a secret: {shown}", name(&path));
        }
    }
    let secret = Secret::new(MARK);
    assert_eq!(format!("{secret} {secret:?} {secret:>9}"), "*** *** ***");
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
}

#[test]
fn with_a_tenant_and_its_client_everything_else_is_the_contracts_default() {
    let config = Config::from_toml(TENANT).expect("enough");
    let defaults = Config {
        cxone: dispod::config::CxoneConfig::new(
            "tenant.example.com",
            Secret::new("hunter2-id"),
            Secret::new("hunter2-secret"),
        ),
        ..Config::default()
    };
    assert_eq!(config, defaults);
    assert_eq!(config.cxone.base_url, "https://tenant.example.com/api/v2");
    assert_eq!(config.cxone.token_url, "https://tenant.example.com/oauth/token");
    assert_eq!(config.mapping.category("1001"), "do_not_call");
}

#[test]
fn the_references_defaults_are_those_in_force() {
    // Each default as the reference has it, read as a file, must change nothing.
    let mut toml = String::new();
    for row in single_rows() {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (key, default) = (cells[0].trim_start_matches("| ").split(',').next().unwrap(), cells[1]);
        let (key, default) = (key.trim_matches('`'), default.trim_matches('`'));
        let bare = default == "false" || (default.parse::<u64>().is_ok() && !default.starts_with("06"));
        match default {
            "-" | "$STATE_DIRECTORY, else ./dispod-data" => {}
            _ if bare => toml.extend([key, " = ", default, "\n"]),
            _ => toml.extend([key, " = \"", default, "\"\n"]),
        }
    }
    let environment = [
        ("DISPOD_CXONE_ENVIRONMENT", "h"),
        ("DISPOD_CXONE_CLIENT_ID", "i"),
        ("DISPOD_CXONE_CLIENT_SECRET", "s"),
    ];
    assert_eq!(serve(&toml, &environment).expect("valid"), serve("", &environment).expect("enough"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!(
        "default_category = \"file\"\n{TENANT}scope = \"file\"\n[webhook]\nmax_body = \"2KiB\"\n[delivery]\nworkers = 2\n\
         [log]\nmask_contacts = false\n"
    );
    let config = serve(
        &text,
        &[
            ("DISPOD_DEFAULT_CATEGORY", "environment"),
            ("DISPOD_CXONE_CLIENT_ID", "environment"),
            ("DISPOD_WEBHOOK_MAX_BODY", "4096"),
            ("DISPOD_WEBHOOK_READ_TIMEOUT", "250ms"),
            ("DISPOD_DELIVERY_WORKERS", "3"),
            ("DISPOD_ADMIN_LISTEN", "off"),
            ("DISPOD_LOG_MASK_CONTACTS", "true"),
            ("DISPOD_CONFIG", "/names/a/file/and/sets/nothing"),
            ("OTHER_VARIABLE", "of no interest"),
        ],
    )
    .expect("valid");
    assert_eq!(config.mapping.default_category, "environment");
    assert_eq!(config.cxone.client_id.expose(), "environment");
    assert_eq!(config.cxone.client_secret.expose(), "hunter2-secret");
    assert_eq!(config.cxone.scope.as_deref(), Some("file"));
    assert_eq!(config.webhook.max_body_bytes, 4096);
    assert_eq!(config.webhook.read_timeout, Duration::from_millis(250));
    assert_eq!(config.delivery.workers, 3);
    assert_eq!(config.admin.listen, None);
    assert!(config.log.mask_contacts);
}

#[test]
fn every_key_has_a_variable_that_is_heard() {
    for row in single_rows() {
        let names = row.trim_start_matches("| ").split(" | ").next().unwrap();
        for key in names.split(", ").map(|name| name.trim_matches('`')) {
            let variable = format!("DISPOD_{}", key.to_uppercase().replace('.', "_"));
            // Nothing allows this text but a few names and paths, and nothing but a known variable is refused so.
            let error = serve(TENANT, &[(&variable, "\u{1}")]).expect_err(&variable).to_string();
            assert!(error.starts_with(&format!("{variable}: ")) && !error.contains("unknown"), "{error}");
        }
    }
}

#[test]
fn the_store_is_in_the_services_state_directory_unless_a_key_says_otherwise() {
    let dir = |text: &str, environment: &[(&str, &str)]| {
        let config = serve(&format!("{text}{TENANT}"), environment).expect("valid");
        config.store.dir.display().to_string()
    };
    let state = ("STATE_DIRECTORY", "/var/lib/dispod:/var/lib/other");
    assert_eq!(dir("", &[]), "./dispod-data");
    assert_eq!(dir("", &[("STATE_DIRECTORY", "")]), "./dispod-data");
    assert_eq!(dir("", &[state]), "/var/lib/dispod");
    assert_eq!(dir("store.dir = \"/file\"\n", &[state]), "/file");
    assert_eq!(dir("store.dir = \"/file\"\n", &[state, ("DISPOD_STORE_DIR", "/variable")]), "/variable");
}

#[test]
fn dispositions_replace_and_severities_are_laid_over() {
    let text = format!(
        "{TENANT}[dispositions]\n9 = \"sold\"\n\"a.b\" = \"lost\"\n[severities]\nsold = \"critical\"\n"
    );
    let mapping = Config::from_toml(&text).expect("valid").mapping;
    assert_eq!(mapping.dispositions.len(), 2);
    assert_eq!((mapping.category("9"), mapping.category("a.b")), ("sold", "lost"));
    assert_eq!(mapping.category("1001"), "unclassified", "the default table is gone");
    assert_eq!(mapping.severity("sold"), Severity::Critical);
    assert_eq!(mapping.severity("do_not_call"), Severity::Critical, "the default severities stay");
    let heading_only = Config::from_toml(&format!("{TENANT}[dispositions]\n")).expect("valid").mapping;
    assert_eq!(heading_only.category("1001"), "do_not_call", "a heading alone sets nothing");
}

#[test]
fn listeners_take_addresses_names_and_sockets() {
    for (text, expected) in [
        ("127.0.0.1:0", Listen::Tcp("127.0.0.1:0".parse().unwrap())),
        ("[::1]:8080", Listen::Tcp("[::1]:8080".parse().unwrap())),
        ("unix:/run/dispod/webhook.sock", Listen::Unix("/run/dispod/webhook.sock".into())),
    ] {
        let config = serve(TENANT, &[("DISPOD_WEBHOOK_LISTEN", text)]).expect(text);
        assert_eq!(config.webhook.listen, expected);
    }
    let config = serve(TENANT, &[("DISPOD_WEBHOOK_LISTEN", "localhost:8080")]).expect("localhost resolves");
    assert!(matches!(config.webhook.listen, Listen::Tcp(address) if address.ip().is_loopback()));
    let anywhere = [("DISPOD_WEBHOOK_LISTEN", "127.0.0.1:0"), ("DISPOD_ADMIN_LISTEN", "127.0.0.1:0")];
    serve(TENANT, &anywhere).expect("port 0 is another port each time");
}

#[test]
fn secrets_come_from_files_and_the_environments_win_whichever_way_they_are_given() {
    let directory = std::env::temp_dir().join(format!("dispod-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("one"), "from the file\n").unwrap();
    fs::write(directory.join("many"), "first\r\n\n  \nsecond\n").unwrap();
    let directory = directory.to_str().unwrap();
    let file = format!(
        "[cxone]\nenvironment = \"h\"\nclient_id_file = \"$CREDENTIALS_DIRECTORY/one\"\nclient_secret = \"hunter2\"\n\
         [webhook]\nauth = \"bearer\"\nsecret_file = \"{directory}/many\"\n"
    );
    let credentials = ("CREDENTIALS_DIRECTORY", directory);
    let config = serve(&file, &[credentials]).expect("valid");
    assert_eq!(config.cxone.client_id.expose(), "from the file");
    let secrets: Vec<&str> = config.webhook.secrets.iter().map(Secret::expose).collect();
    assert_eq!(secrets, ["first", "second"]);

    let one = format!("{directory}/one");
    let environment = [
        credentials,
        ("DISPOD_CXONE_CLIENT_ID", "value over file"),
        ("DISPOD_CXONE_CLIENT_SECRET_FILE", &one),
        ("DISPOD_WEBHOOK_SECRET", "third"),
    ];
    let config = serve(&file, &environment).expect("valid");
    assert_eq!(config.cxone.client_id.expose(), "value over file");
    assert_eq!(config.cxone.client_secret.expose(), "from the file");
    assert_eq!(config.webhook.secrets, [Secret::new("third")]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn local_commands_need_no_tenant_and_no_secret_but_what_is_there_must_be_valid() {
    let local = |text: &str| Config::from_parts(Some(("dispod.toml", text)), [], Purpose::Local);
    assert_eq!(local("").expect("nothing is required").cxone.base_url, "");
    let unreadable = "[webhook]\nauth = \"bearer\"\nsecret_file = \"/nonexistent/secret\"\n[cxone]\ngrant = \
                      \"password\"\npassword_file = \"$CREDENTIALS_DIRECTORY/password\"\n[[subscribers]]\nname = \
                      \"crm\"\nwebhook = \"https://example.com/\"\nsecret_file = \"/nonexistent/secret\"\n";
    let config = local(unreadable).expect("secrets may be out of reach");
    assert_eq!((config.webhook.auth, config.webhook.secrets.len()), (WebhookAuth::Bearer, 0));
    assert_eq!(config.subscribers.len(), 1);
    assert!(local("[store]\nmax_size = \"1 banana\"\n").expect_err("still checked").is_config());
    assert!(local("[cxone]\nbase_url = \"http://example.com\"\n").expect_err("still checked").is_config());
}

#[test]
fn a_file_that_is_named_must_be_there_and_be_text() {
    let missing = Config::load_local(Some(Path::new("/nonexistent/dispod.toml"))).expect_err("not there");
    assert_eq!(missing.exit_status(), 78);
    assert!(missing.to_string().starts_with("/nonexistent/dispod.toml: cannot read the configuration: "));
    let directory = Config::load(Some(&std::env::temp_dir())).expect_err("a directory");
    assert!(directory.is_config(), "{directory}");
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let warnings = |environment: &[(&str, &str)]| serve(TENANT, environment).expect("valid").warnings();
    assert_eq!(warnings(&[]), [""; 0]);
    assert_eq!(warnings(&[("DISPOD_WEBHOOK_LISTEN", "unix:/run/x")]), [""; 0]);
    let open = warnings(&[("DISPOD_WEBHOOK_LISTEN", "0.0.0.0:8080")]);
    assert!(open.len() == 1 && open[0].contains("anyone can post"), "{open:?}");
    let unused = warnings(&[("DISPOD_WEBHOOK_SECRET", MARK)]);
    assert!(unused.len() == 1 && unused[0].contains("webhook.auth is none"), "{unused:?}");
    assert!(!unused[0].contains(MARK));
    let asked = [("DISPOD_WEBHOOK_LISTEN", "0.0.0.0:8080"), ("DISPOD_WEBHOOK_AUTH", "bearer")];
    assert_eq!(warnings(&[asked[0], asked[1], ("DISPOD_WEBHOOK_SECRET", MARK)]), [""; 0]);
}

#[test]
fn the_reference_names_each_key_once() {
    let reference = reference();
    let rows: Vec<&str> = reference.lines().skip(2).collect();
    let unique: BTreeSet<&str> = rows.iter().filter_map(|row| row.split(" | ").next()).collect();
    assert_eq!(unique.len(), rows.len());
    assert!(rows.iter().all(|row| row.matches(" | ").count() == 3), "a cell holds a bar");
}
