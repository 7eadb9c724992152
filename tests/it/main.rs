//! Everything dispod promises, proved from outside.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test")]
mod bytes;
mod catalogue;
mod child;
mod config;
mod door;
mod guard;
mod heart;
mod hostile;
mod listeners;
mod proxy;
mod sandbox;
mod support;
mod tidy;
mod unit;
mod webhook;
