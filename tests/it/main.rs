//! Everything dispod promises, proved from outside.

mod bytes;
mod catalogue;
mod config;
mod door;
mod heart;
mod hostile;
mod proxy;
mod sandbox;
mod support;
mod tidy;
mod unit;
mod webhook;
