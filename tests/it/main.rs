//! Everything dispod promises, proved from outside.

mod bytes;
mod catalogue;
mod config;
mod door;
mod heart;
mod hostile;
mod sandbox;
mod subscribers;
mod support;
mod tidy;
mod webhook;
