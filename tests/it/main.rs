//! Everything dispod promises, proved from outside.

mod bytes;
mod config;
mod heart;
mod sandbox;
mod support;
