//! Everything dispod promises, proved from outside.

mod bytes;
mod catalogue;
mod config;
mod demo;
mod door;
mod heart;
mod hostile;
mod promise;
mod sandbox;
mod support;
mod tidy;
mod webhook;
