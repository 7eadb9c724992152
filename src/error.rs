//! The one error type: opaque, with predicates, and an exit status (contract section 2).

use std::fmt;
use std::path::{Path, PathBuf};

/// What went wrong, in words for the person who has to mend it.
///
/// One type for the whole crate: a caller can only ask what to do about it ([`Error::exit_status`],
/// [`Error::is_config`]...), never take it apart.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    Config,
    StoreHeld,
    StoreDamaged(PathBuf),
}

impl Error {
    /// Something could not be done: exit status 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into() }
    }

    /// The command line is wrong: exit status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into() }
    }

    /// The configuration is wrong: exit status 78 (`EX_CONFIG`).
    pub fn config(message: impl Into<String>) -> Self {
        Self { kind: Kind::Config, message: message.into() }
    }

    /// Another process holds the store.
    pub fn store_held(message: impl Into<String>) -> Self {
        Self { kind: Kind::StoreHeld, message: message.into() }
    }

    /// The store's file cannot be trusted; `path` is the file.
    pub fn store_damaged(path: &Path, message: impl Into<String>) -> Self {
        Self { kind: Kind::StoreDamaged(path.to_owned()), message: message.into() }
    }

    /// Whether the configuration is at fault.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// Whether another process holds the store.
    #[must_use]
    pub fn is_store_held(&self) -> bool {
        self.kind == Kind::StoreHeld
    }

    /// The damaged file of the store, if that is what is wrong.
    #[must_use]
    pub fn damaged_store(&self) -> Option<&Path> {
        match &self.kind {
            Kind::StoreDamaged(path) => Some(path),
            _ => None,
        }
    }

    /// The process's exit status for it: 1, 2 or 78.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self.kind {
            Kind::Failed | Kind::StoreHeld | Kind::StoreDamaged(_) => 1,
            Kind::Usage => 2,
            Kind::Config => 78,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
