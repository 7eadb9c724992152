//! The admin listener, from outside.

mod bad_requests;
mod events;
mod gate;
mod letters;
mod metrics;
pub mod office;
mod size;
mod status;
