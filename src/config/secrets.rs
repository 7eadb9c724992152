//! Where secrets come from: the value itself or the file it names, the environment before the file.

use std::fs::File;
use std::io::Read;

use super::draft::{Draft, Setting};
use super::keys::KEYS;
use super::kind::Kind;
use super::names::FILE_SUFFIX;
use super::{Purpose, Secret};

/// Largest file of secrets, in bytes.
const SECRET_FILE_MAX_BYTES: u64 = 64 * 1024;
/// The one variable that may lead the path of a secret's file, in both spellings.
const CREDENTIALS: [&str; 2] = ["$CREDENTIALS_DIRECTORY/", "${CREDENTIALS_DIRECTORY}/"];
/// What is allowed for a single secret.
const ALLOWED: &str = "a secret without control characters";
/// What is allowed for several.
const ALLOWED_MANY: &str = "one secret a line, without control characters";

/// Sets every secret from the source that wins: the environment over the file, whether it gives the value or a path.
pub(super) fn resolve(draft: &mut Draft, layers: [&[Setting]; 2]) {
    for key in &KEYS {
        let Kind::Secret { many, set, .. } = &key.kind else { continue };
        let mut winner: Option<&Setting> = None;
        for layer in layers {
            let found: Vec<&Setting> = layer.iter().filter(|setting| setting.key.name == key.name).collect();
            if let [first, second, ..] = found[..] {
                let together = format!("set together with {}, allowed: one of the two", first.full);
                draft.mistake(&second.origin, &second.full, together);
            }
            winner = found.last().copied().or(winner);
        }
        let Some(winner) = winner else { continue };
        for loser in [key.name.to_owned(), format!("{}{FILE_SUFFIX}", key.name)] {
            if loser != winner.full {
                draft.forget(&loser);
            }
        }
        // What is no text has been refused already.
        let Some(text) = winner.raw.as_text().filter(|text| !text.is_empty()) else { continue };
        match obtain(draft, text, winner.is_file(), *many) {
            Ok(secrets) => set(&mut draft.config, secrets),
            Err(why) => draft.mistake(&winner.origin, &winner.full, why),
        }
    }
}

/// The secrets in a text, or in the file it names: one, or with `many` one a line, blank lines ignored. None at all
/// where the file cannot be read and the purpose can do without.
///
/// The error is the message's last part and never holds a character of a secret.
pub(super) fn obtain(draft: &Draft, text: &str, is_file: bool, many: bool) -> Result<Vec<Secret>, String> {
    let allowed = if many { ALLOWED_MANY } else { ALLOWED };
    let refuse = |found: &str| {
        let place = if is_file { format!(" in {text:?}") } else { String::new() };
        Err(format!("found {found}{place}, allowed: {allowed}"))
    };
    let content = if is_file {
        match read(draft, text) {
            Ok(content) => content,
            Err(_) if draft.purpose == Purpose::Local => return Ok(Vec::new()),
            Err(why) => return Err(format!("cannot read {text:?}: {why}, allowed: a file with {allowed}")),
        }
    } else {
        text.to_owned()
    };
    let lines: Vec<&str> = match &content {
        content if many => content.lines().filter(|line| !line.trim().is_empty()).collect(),
        content if is_file => vec![without_newline(content)],
        content => vec![content],
    };
    if lines.concat().is_empty() {
        return refuse("nothing");
    }
    if lines.iter().any(|line| line.chars().any(char::is_control)) {
        return refuse("a control character");
    }
    let secrets: Vec<Secret> = lines.into_iter().map(Secret::new).collect();
    // The output of `dispod check`, used as a file, must not make three asterisks a secret anyone knows.
    if draft.purpose == Purpose::Serve && secrets.iter().any(Secret::is_redacted) {
        return refuse("\"***\", which stands for a secret that is not shown");
    }
    Ok(secrets)
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn read(draft: &Draft, path: &str) -> Result<String, String> {
    let path = match CREDENTIALS.iter().find_map(|prefix| path.strip_prefix(prefix)) {
        None => path.to_owned(),
        Some(rest) => match &draft.credentials_directory {
            Some(directory) => format!("{directory}/{rest}"),
            None => return Err("CREDENTIALS_DIRECTORY is not set".to_owned()),
        },
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_FILE_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SECRET_FILE_MAX_BYTES {
        return Err(format!("larger than {SECRET_FILE_MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}
