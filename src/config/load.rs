//! From the file and the environment to a [`Config`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::{Config, check, names, secrets, sources};
use crate::Error;

/// The variable that names the file.
pub(super) const CONFIG_VARIABLE: &str = "DISPOD_CONFIG";
/// The file read when none is named, if it exists.
const DEFAULT_FILE: &str = "/etc/dispod/dispod.toml";
/// Where systemd says a service's state belongs, and its credentials are (systemd.exec(5)).
const STATE_VARIABLE: &str = "STATE_DIRECTORY";
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// Largest configuration file, in bytes.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What a configuration is read for, and so what must be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run the daemon: everything required must be there.
    Serve,
    /// To reach the store or the listeners of a daemon on this machine: a tenant, its credentials and the secrets may
    /// be missing or unreadable. What is there must still be valid.
    Local,
}

impl Config {
    /// The configuration of the daemon (contract section 3): the file named, else `$DISPOD_CONFIG`, else
    /// `/etc/dispod/dispod.toml` if it exists; the environment's `DISPOD_SECTION_KEY` wins over the file.
    ///
    /// # Errors
    /// A configuration error (exit status 78) of one line per mistake: place, key, what was found, what is allowed.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        load(file, Purpose::Serve)
    }

    /// Like [`Config::load`] for a command that needs only the store or the listeners: see [`Purpose::Local`].
    ///
    /// # Errors
    /// As [`Config::load`], but not for what is missing.
    pub fn load_local(file: Option<&Path>) -> Result<Self, Error> {
        load(file, Purpose::Local)
    }

    /// The configuration in a TOML text alone, for embedders; the environment is not looked at.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::from_parts(Some(("configuration", text)), [], Purpose::Serve)
    }

    /// The configuration from its parts: the file's name for messages and its text, and the environment's variables
    /// (of which `DISPOD_...`, `STATE_DIRECTORY` and `CREDENTIALS_DIRECTORY` matter). Reads no file but those of
    /// secrets.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_parts(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let mut variables: Vec<(String, String)> = environment.into_iter().collect();
        variables.sort();
        let variable = |name: &str| {
            let found = variables.iter().find(|(each, value)| each == name && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let mut draft = Draft::new(file.map_or("", |(name, _)| name), purpose);
        draft.credentials_directory = variable(CREDENTIALS_VARIABLE);
        // systemd gives a list, divided by colons, where a unit has several.
        if let Some(first) = variable(STATE_VARIABLE).as_deref().and_then(|list| list.split(':').next()) {
            draft.config.store.dir = PathBuf::from(first);
        }
        let in_file = file.map_or_else(Vec::new, |(_, text)| sources::file(text, &mut draft));
        draft.apply(&in_file);
        let in_environment = sources::environment(&variables, &mut draft);
        draft.apply(&in_environment);
        secrets::resolve(&mut draft, [&in_file, &in_environment]);
        // A mistake in one key would make more of the checks between keys, all of them noise.
        if draft.is_sound() {
            check::all(&mut draft);
        }
        draft.finish()
    }
}

fn load(named: Option<&Path>, purpose: Purpose) -> Result<Config, Error> {
    let variables = variables(std::env::vars_os())?;
    let file = choose(named, std::env::var_os(CONFIG_VARIABLE), Path::new(DEFAULT_FILE));
    let text = file.as_deref().map(read).transpose()?;
    let name = file.as_deref().map(|path| path.to_string_lossy());
    Config::from_parts(name.as_deref().zip(text.as_deref()), variables, purpose)
}

/// Which file to read: the one named, else the variable's, else the default if it exists.
fn choose(named: Option<&Path>, variable: Option<OsString>, default: &Path) -> Option<PathBuf> {
    let by_variable = || variable.filter(|value| !value.is_empty()).map(PathBuf::from);
    // Not `exists`, which would take one that may not be looked at for none.
    let there =
        || !matches!(default.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound);
    named.map(Path::to_owned).or_else(by_variable).or_else(|| there().then(|| default.to_owned()))
}

/// The variables that may matter, as text.
fn variables(all: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, Error> {
    let mut variables = Vec::new();
    for (name, value) in all {
        let Ok(name) = name.into_string() else { continue };
        let ours = name.starts_with(names::ENV_PREFIX) && name != CONFIG_VARIABLE;
        if ours || name == STATE_VARIABLE || name == CREDENTIALS_VARIABLE {
            let value = value.into_string().map_err(|_| {
                Error::config(format!("{name}: found bytes that are not UTF-8, allowed: UTF-8"))
            })?;
            variables.push((name, value));
        }
    }
    Ok(variables)
}

fn read(path: &Path) -> Result<String, Error> {
    let wrong =
        |why: String| Error::config(format!("{}: cannot read the configuration: {why}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(wrong(format!("larger than {FILE_MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| wrong("not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn the_file_named_wins_then_the_variables_then_the_default() {
        let existing = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let missing = existing.with_file_name("no such file");
        let named = Path::new("named.toml");
        let variable = || Some(OsString::from("variable.toml"));
        assert_eq!(choose(Some(named), variable(), &existing).as_deref(), Some(named));
        assert_eq!(choose(None, variable(), &existing).as_deref(), Some(Path::new("variable.toml")));
        assert_eq!(choose(None, Some(OsString::new()), &existing), Some(existing.clone()));
        assert_eq!(choose(None, None, &missing), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_they_matter() {
        let broken = || OsString::from_vec(vec![0xff]);
        let error = variables([("DISPOD_STORE_DIR".into(), broken())].into_iter()).expect_err("refused");
        assert!(error.is_config() && error.to_string().starts_with("DISPOD_STORE_DIR: "), "{error}");
        let kept = variables([("PATH".into(), broken()), ("DISPOD_CONFIG".into(), broken())].into_iter());
        assert_eq!(kept.expect("of no interest"), []);
    }
}
