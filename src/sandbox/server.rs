//! The sandbox's threads and what they share.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use tiny_http::{Request, Server};

use super::answer::{Buffers, Call, Fate};
use super::cut::{self, End};
use super::ledger::{Ledger, Ports};
use super::options::{Behaviour, SandboxOptions};
use super::token::{Standing, Tokens};
use super::{contact, control, token};
use crate::error::Error;

/// Longest body read; an update is far below it.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Longest body that a request may announce and still be dropped.
const DROPPED_MAX_BYTES: usize = 1024 * 1024;
/// Most requests left hanging; beyond it the oldest is answered 500, its client has most likely gone.
const HUNG_MAX: usize = 512;
/// Stack of a serving thread; the work is shallow.
const STACK_BYTES: usize = 256 * 1024;
/// How often connections that tiny_http left without a thread are looked after while nothing is new.
const PULSE_IDLE: Duration = Duration::from_millis(250);
/// The same while connections are opened, and so many times after the latest one.
const PULSE_BUSY: Duration = Duration::from_millis(10);
const PULSES_BUSY: u32 = 100;
/// How long closing waits for the port to be free again.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What outlives the listener: options, contacts, tokens, chance.
pub(super) struct Shared {
    pub(super) options: SandboxOptions,
    behaviour: RwLock<Behaviour>,
    ledger: Mutex<Ledger>,
    changed: Condvar,
    tokens: RwLock<Tokens>,
    rng: Mutex<fastrand::Rng>,
}

impl Shared {
    pub(super) fn new(options: SandboxOptions) -> Self {
        Self {
            behaviour: RwLock::new(options.behaviour.clone()),
            ledger: Mutex::default(),
            changed: Condvar::new(),
            tokens: RwLock::default(),
            rng: Mutex::new(options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
            options,
        }
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.behaviour.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the behaviour, unless the outcome is invalid.
    pub(super) fn set_behaviour(&self, change: impl FnOnce(&mut Behaviour)) -> Result<(), Error> {
        let mut behaviour = self.behaviour.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = behaviour.clone();
        change(&mut next);
        next.check()?;
        let limit_changed = next.rate_limit != behaviour.rate_limit;
        *behaviour = next;
        drop(behaviour);
        if limit_changed {
            self.change(Ledger::forget_limiter);
        }
        Ok(())
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger and tells who waits for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.ledger();
        let result = change(&mut ledger);
        let watched = ledger.watchers > 0;
        drop(ledger);
        if watched {
            self.changed.notify_all();
        }
        result
    }

    /// Waits until `condition` holds of the ledger; gives whether it came to hold in time.
    pub(super) fn wait(&self, timeout: Duration, mut condition: impl FnMut(&Ledger) -> bool) -> bool {
        let mut ledger = self.ledger();
        ledger.watchers += 1;
        let (mut ledger, _) = self
            .changed
            .wait_timeout_while(ledger, timeout, |ledger| !condition(ledger))
            .unwrap_or_else(PoisonError::into_inner);
        ledger.watchers -= 1;
        condition(&ledger)
    }

    /// A number from 0 to 1, 1 excluded.
    pub(super) fn roll(&self) -> f64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    pub(super) fn issue(&self, lifetime: Duration) -> String {
        let random = self.rng.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
        let token = format!("sandbox.{random:032x}");
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.issue(token.clone(), lifetime, Instant::now());
        drop(tokens);
        self.change(|ledger| ledger.stats.tokens_issued += 1);
        token
    }

    pub(super) fn standing(&self, call: &Call<'_>) -> Standing {
        let Ok(authorization) = call.header("Authorization") else { return Standing::Unknown };
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).standing(authorization, Instant::now())
    }

    pub(super) fn revoke(&self) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).revoke();
        self.change(|ledger| ledger.stats.revocations += 1);
    }
}

/// A listener with its threads.
pub(super) struct Door {
    context: Arc<Context>,
    /// Dropped to end every wait.
    running: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

/// What a serving thread needs.
struct Context {
    shared: Arc<Shared>,
    server: Server,
    local: SocketAddr,
    /// Disconnected when the door closes; nothing is ever sent.
    stop: Receiver<()>,
    pulse: Sender<()>,
    pulsed: Mutex<Ports>,
    hung: Mutex<VecDeque<Request>>,
}

impl Door {
    pub(super) fn open(shared: &Arc<Shared>, address: SocketAddr) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("sandbox on {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(|error| failed(&error))?;
        let local = listener.local_addr().map_err(|error| failed(&error))?;
        let server = Server::from_listener(listener, None).map_err(|error| failed(&error))?;
        let (running, stop) = bounded(0);
        let (pulse, pulses) = bounded(HUNG_MAX);
        let context = Arc::new(Context {
            shared: Arc::clone(shared),
            server,
            local,
            stop: stop.clone(),
            pulse,
            pulsed: Mutex::default(),
            hung: Mutex::default(),
        });
        let mut door = Self { context, running, threads: Vec::new() };
        if let Err(error) = door.staff(pulses, stop) {
            door.close();
            return Err(error);
        }
        Ok(door)
    }

    fn staff(&mut self, pulses: Receiver<()>, stop: Receiver<()>) -> Result<(), Error> {
        let local = self.local();
        self.spawn("sandbox-pulse", move || pulse_loop(local, &pulses, &stop))?;
        for _ in 0..self.context.shared.options.threads {
            let context = Arc::clone(&self.context);
            self.spawn("sandbox", move || serve_loop(&context))?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(run).map_err(|error| Error::failed(format!("thread {name}: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.context.local
    }

    /// Ends connections, threads and listener, as a crash would: what was being worked on is not committed.
    pub(super) fn close(self) {
        let Self { context, running, threads } = self;
        let local = context.local;
        drop(running);
        // First, so that no client sees the 500 that tiny_http gives for a request nobody answers.
        cut::all(local.port());
        for _ in &threads {
            context.server.unblock();
        }
        for thread in threads {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
        drop(context);
        // The accept thread has the listener and drops it a moment later.
        let deadline = Instant::now() + CLOSE_MAX;
        while TcpListener::bind(local).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        cut::all(local.port());
    }
}

fn serve_loop(context: &Context) {
    let mut body = Vec::new();
    let mut out = Buffers::default();
    loop {
        let request = context.server.recv();
        if context.stop.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        match request {
            Ok(request) => serve(context, request, &mut body, &mut out),
            Err(error) => log::error!("sandbox on {}: {error}", context.local),
        }
    }
}

fn serve(context: &Context, mut request: Request, body: &mut Vec<u8>, out: &mut Buffers) {
    let remote = request.remote_addr().copied().unwrap_or(context.local);
    if context.pulsed.lock().unwrap_or_else(PoisonError::into_inner).insert(remote.port()) {
        // Full: enough of them are on their way.
        let _ = context.pulse.try_send(());
    }
    if request.body_length().is_some_and(|length| length > BODY_MAX_BYTES) {
        return refuse_large(request, remote, context.local.port());
    }
    body.clear();
    let mut limited = request.as_reader().take(BODY_MAX_BYTES as u64);
    let whole = limited.read_to_end(body).is_ok_and(|length| request.body_length() == Some(length));
    if !whole && request.body_length().is_some() {
        // The client has gone in the middle of it.
        return;
    }
    let call = Call {
        method: request.method(),
        url: request.url(),
        headers: request.headers(),
        remote,
        body: body.as_slice(),
    };
    let fate = route(context, &call, out);
    let head_only = *call.method == tiny_http::Method::Head;
    let bytes = match fate {
        Fate::Hang => return hang(context, request),
        Fate::Reset => &[],
        Fate::Cut => &out.whole[..out.whole.len() / 2],
        Fate::Answered if head_only => out.head(),
        Fate::Answered => out.whole.as_slice(),
    };
    let mut writer = request.into_writer();
    // A client that has gone is no concern of the sandbox's.
    let _ = writer.write_all(bytes).and_then(|()| writer.flush());
    match fate {
        Fate::Cut => cut::connection(context.local.port(), remote, End::Close),
        Fate::Reset => cut::connection(context.local.port(), remote, End::Reset),
        Fate::Answered | Fate::Hang => false,
    };
}

fn route(context: &Context, call: &Call<'_>, out: &mut Buffers) -> Fate {
    let shared = &context.shared;
    if let Some(segment) = call.url.strip_prefix(contact::PREFIX) {
        let hold = |time| context.stop.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        return contact::answer(shared, call, segment, &hold, out);
    }
    if call.url == token::PATH {
        return token::answer(shared, call, out);
    }
    control::answer(shared, call, out);
    Fate::Answered
}

/// Keeps a request without answering it.
fn hang(context: &Context, request: Request) {
    let mut hung = context.hung.lock().unwrap_or_else(PoisonError::into_inner);
    hung.push_back(request);
    let oldest = if hung.len() > HUNG_MAX { hung.pop_front() } else { None };
    drop(hung);
    drop(oldest);
}

/// Ends a request whose body is too large to read. Dropping it makes tiny_http allocate the whole length announced,
/// and abort the process when there is not so much memory; so the largest are forgotten, which costs a thread and
/// two descriptors each.
fn refuse_large(request: Request, remote: SocketAddr, port: u16) {
    cut::connection(port, remote, End::Reset);
    if request.body_length().is_some_and(|length| length > DROPPED_MAX_BYTES) {
        std::mem::forget(request);
    }
}

/// Frees connections that tiny_http accepted and left without a thread: in a burst it counts on waiting threads
/// that have not woken yet. Every new connection makes it start or wake one thread, which then takes a stranded
/// one; so a short connection of our own is made for every connection first heard of, and now and then.
fn pulse_loop(local: SocketAddr, pulses: &Receiver<()>, stop: &Receiver<()>) {
    let address = reachable(local);
    let mut busy = 0u32;
    loop {
        crossbeam_channel::select! {
            recv(stop) -> _ => return,
            recv(pulses) -> told => match told {
                Ok(()) => busy = PULSES_BUSY,
                Err(_) => return,
            },
            default(if busy > 0 { PULSE_BUSY } else { PULSE_IDLE }) => busy = busy.saturating_sub(1),
        }
        if let Ok(stream) = TcpStream::connect_timeout(&address, PULSE_IDLE) {
            // Closed by a reset, it leaves no trace in the kernel's tables.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// The address by which this machine reaches its own listener.
pub(super) fn reachable(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, local.port())
}
