//! dispod, the disposition daemon.
pub mod config;
pub mod disposition;
pub mod error;
pub mod event;
pub mod health;
pub mod http;
pub mod intake;
pub mod keep;
pub mod listener;
pub mod metrics;
pub mod notify;
pub mod sandbox;
pub mod verdict;

pub use config::Config;
pub use error::Error;
