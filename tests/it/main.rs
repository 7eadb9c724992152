//! Everything dispod promises, proved from outside.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test")]

mod admin;
mod audit;
mod bytes;
mod catalogue;
mod child;
mod config;
mod crash;
mod demo;
mod door;
mod faults;
mod fuzz;
mod guard;
mod heart;
mod hostile;
mod keys;
mod listeners;
mod manual;
mod memory;
mod model;
mod notify;
mod ops;
mod order;
mod outage;
mod pacing;
mod page;
mod priority;
mod promise;
mod proxy;
mod readme;
mod sandbox;
mod subscribers;
mod support;
mod tidy;
mod unit;
mod webhook;
