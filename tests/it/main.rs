//! Everything dispod promises, proved from outside.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test")]

mod admin;
mod bytes;
mod catalogue;
mod child;
mod config;
mod demo;
mod door;
mod faults;
mod fuzz;
mod guard;
mod heart;
mod hostile;
mod listeners;
mod promise;
mod proxy;
mod sandbox;
mod subscribers;
mod support;
mod tidy;
mod unit;
mod webhook;
