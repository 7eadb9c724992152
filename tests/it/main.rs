//! Everything dispod promises, proved from outside.

mod config;
mod heart;
mod sandbox;
mod support;
mod unit;
