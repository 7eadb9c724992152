//! dispod, the disposition daemon.
pub mod backoff;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cxone;
pub mod dispatch;
pub mod disposition;
pub mod error;
pub mod event;
pub mod flow;
pub mod health;
pub mod intake;
pub mod keep;
pub mod keeper;
pub mod logging;
pub mod metrics;
pub mod rooms;
pub mod sandbox;
pub mod settle;
pub mod store;
pub mod storm;
pub mod verdict;
pub mod worker;

pub use config::Config;
pub use error::Error;
