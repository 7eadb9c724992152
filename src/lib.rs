//! dispod, the disposition daemon for NICE CXone Outbound: call results come in as webhooks, each disposition code
//! is mapped to a category and a severity, the contact is updated through the Contact API, and the outcome is
//! published to subscribers by severity.
//!
//! The product is one sentence: **a 200 means kept, and kept means delivered or dead with a reason.** This page is
//! the architecture that makes it true; `README.md` is the manual.
//!
//! # The way of an event
//!
//! ```text
//!             intake               keeper                dispatch                worker  x N
//!  CXone ──▶ accept, check, ──▶ one transaction, ──▶ per-contact lanes, ──▶ token, PATCH, ──▶ bus ──▶ subscribers
//!            parse              one sync, then        critical first,        verdict           critical
//!              ▲                the 200               retry clock               │              medium
//!              └──── reply ───────┘  ▲                     ▲                    │              low
//!                                    └──────── verdict ────┴────────────────────┘
//! ```
//!
//! One direction, one way back. Every arrow is a bounded [`crossbeam_channel`]; every room is a thread that owns
//! its state. There is no async runtime, not even behind a dependency.
//!
//! 1. [`intake`] takes a request from `tiny_http` (contained by [`http`]), checks it before and after its body, and
//!    hands the keeper the parsed event *and the right to reply*, a [`keep::Submission`]. It never waits: a full
//!    channel is a 503.
//! 2. [`keeper`], sole writer of the [`store`], drains whatever waits, writes one transaction, syncs once, answers
//!    all. Under load the batches grow by themselves.
//! 3. [`dispatch`] holds a window of the backlog as lanes, one per contact, and releases an event when its contact
//!    has none out, a place is free (there are as many as workers), the pace allows it and the API is not known to be
//!    away. Of many workers the next that gets done takes it ([`handover`]).
//! 4. A [`worker`] calls the Contact API ([`cxone`]) by blocking HTTP and reports. What an answer means is one
//!    table, [`verdict::Verdict::of`]; what is written for it is one pure function, [`settle::settlement`].
//! 5. Dispatch learns from the report (pace, outage, denial) and has the settlement written by the keeper. Only
//!    when that is done is the event's place free again, so a kill -9 repeats at most as many updates as there are
//!    workers.
//! 6. The [`bus`] carries delivered outcomes to listeners inside the process; durable subscribers read the store.
//!
//! # The states of an event
//!
//! | state | where it is | what moves it on |
//! |---|---|---|
//! | the sender's | in a socket, or in the channel to the keeper | the commit, or a 503 |
//! | **kept** | in the store's log, synced: from this instant it is ours | dispatch |
//! | out | with a worker; the store says pending, so a crash repeats it | the report |
//! | waiting | in the store with the time of the next try | the clock |
//! | delivered | settled in the store; the API accepted it | retention |
//! | dead | in the store with its reason, listable, retryable | an operator |
//! | dropped | an operator gave it up | retention |
//!
//! *Kept* is one instant, the return of [`store::Store::transact`] with [`store::Sync::Now`]. Start-up is recovery:
//! there is no other start.
//!
//! # Between keeper and dispatch
//!
//! All the keeper says to dispatch travels on one channel, in the order of its commits. That order is what makes
//! the window sound: when an answer about a lane or a class of the backlog arrives, every event kept before it was
//! read has been announced before it, and every one kept later will be announced after it. The keeper never waits
//! for dispatch: part of the channel is reserved for answers, and when the rest is full dispatch is told that it is
//! behind and reads on from the store.
//!
//! # Floors
//!
//! A file imports only from floors below its own; rooms never import each other; only [`engine`] and [`daemon`]
//! know who is next door. A test holds this against the imports.
//!
//! | floor | modules | rule |
//! |---|---|---|
//! | process | `main.rs`, [`cli`] | parse, call, exit status |
//! | assembly | [`engine`], [`daemon`], [`sandbox`] | builds channels, starts, joins |
//! | rooms | [`intake`], [`keeper`], [`dispatch`], [`worker`], [`subscribers`], [`admin`] | one loop each, own their state |
//! | messages | [`flow`], [`settle`], [`handover`] | what rooms say to each other |
//! | doors | [`http`], [`listener`], [`store`] and what is read from it ([`audit`]), [`cxone`], `outgoing`, `program`, [`bus`], ... | one outside thing each |
//! | facts | [`event`], [`disposition`], [`verdict`], [`backoff`], [`config`], [`error`], ... | no threads, no network |
//!
//! # Embedding
//!
//! [`Daemon`] is the whole of it for an embedder: start it with a [`Config`], subscribe by [`Severity`], shut it
//! down. No type of `tiny_http`, `ureq` or `rusqlite` is part of that interface.

pub mod admin;
pub mod audit;
pub mod backoff;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cxone;
pub mod daemon;
pub mod dispatch;
pub mod disposition;
pub mod engine;
pub mod error;
pub mod event;
pub mod flow;
pub mod handover;
pub mod health;
pub mod http;
pub mod intake;
pub mod keep;
pub mod keeper;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod notify;
mod outgoing;
#[expect(unsafe_code, reason = "what the kernel is told about memory nothing safe wraps")]
mod program;
pub mod rooms;
pub mod sandbox;
pub mod settle;
pub mod signature;
pub mod store;
pub mod storm;
pub mod subscribers;
pub mod verdict;
pub mod worker;

pub use config::Config;
pub use daemon::Daemon;
pub use error::Error;
pub use event::{CallResult, Outcome, Severity};

/// Has the README's program compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
