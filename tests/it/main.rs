//! Everything dispod promises, proved from outside.

mod config;
mod sandbox;
mod support;
