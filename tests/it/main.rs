//! Everything dispod promises, proved from outside.

mod bytes;
mod catalogue;
mod child;
mod config;
mod door;
mod guard;
mod heart;
mod hostile;
mod listeners;
mod sandbox;
mod support;
mod tidy;
mod webhook;
