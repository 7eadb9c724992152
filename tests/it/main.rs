//! Everything dispod promises, proved from outside.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test")]

mod catalogue;
mod child;
mod door;
mod guard;
mod hostile;
mod listeners;
mod webhook;
