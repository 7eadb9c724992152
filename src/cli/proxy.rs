//! `dispod proxy`: the configuration of a proxy in front of the webhook, as text, with the daemon's own limits in it.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::ConfigFile;
use crate::config::{Config, Listen};
use crate::error::Error;

/// `@name@` stands for what the daemon's configuration and the command line say.
const NGINX: &str = include_str!("assets/nginx.conf");
/// Where `dispod unit --socket` listens.
const SOCKET: &str = "/run/dispod/webhook.sock";
/// What a certificate's file is called below `/etc/letsencrypt/live/NAME`.
const CERTIFICATE_FILE: &str = "fullchain.pem";
/// And its key's.
const KEY_FILE: &str = "privkey.pem";

/// `dispod proxy`
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    proxy: Proxy,
}

#[derive(clap::Subcommand)]
enum Proxy {
    /// Print a complete nginx.conf: TLS, limits, whole requests only, one connection each, a Unix socket.
    Nginx(Nginx),
}

#[derive(clap::Args)]
struct Nginx {
    /// Where nginx listens
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "443")]
    listen: At,
    /// The name in the certificate
    #[arg(long, value_name = "NAME", default_value = "dispod.example.com", value_parser = name)]
    server_name: String,
    /// Where dispod listens [default: webhook.listen if it is a Unix socket, else that of `dispod unit --socket`]
    #[arg(long, value_name = "PATH", value_parser = word)]
    socket: Option<String>,
    /// The certificate with its chain [default: /etc/letsencrypt/live/NAME/fullchain.pem]
    #[arg(long, value_name = "FILE", value_parser = word)]
    certificate: Option<String>,
    /// Its key [default: /etc/letsencrypt/live/NAME/privkey.pem]
    #[arg(long, value_name = "FILE", value_parser = word)]
    key: Option<String>,
    /// Where nginx logs its errors
    #[arg(long, value_name = "FILE", default_value = "/var/log/nginx/error.log", value_parser = word)]
    error_log: String,
    /// nginx's own account
    #[arg(long, value_name = "USER", default_value = "www-data", value_parser = name)]
    user: String,
    #[command(flatten)]
    file: ConfigFile,
}

/// A port on every address, or one address.
#[derive(Clone, Copy)]
enum At {
    Port(NonZeroU16),
    Address(SocketAddr),
}

impl FromStr for At {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(port) = text.parse() {
            return Ok(Self::Port(port));
        }
        text.parse()
            .map(Self::Address)
            .map_err(|_| "a port, or an address with a port, such as 192.0.2.1:443")
    }
}

impl At {
    /// nginx's `listen` lines.
    fn lines(self) -> String {
        let line = |at: &str| format!("        listen {at} ssl default_server;");
        match self {
            Self::Port(port) => [line(&port.to_string()), line(&format!("[::]:{port}"))].join("\n"),
            Self::Address(address) => line(&address.to_string()),
        }
    }
}

/// Prints the proxy's configuration.
///
/// # Errors
/// The configuration is wrong (78), or its `webhook.path` cannot be told to nginx.
pub fn run(args: &Args) -> Result<(), Error> {
    let Proxy::Nginx(nginx) = &args.proxy;
    let config = Config::load_local(nginx.file.config.as_deref())?;
    super::print(&nginx_conf(nginx, &config)?)
}

fn nginx_conf(args: &Nginx, config: &Config) -> Result<String, Error> {
    let webhook = &config.webhook;
    // nginx compares decoded paths, and one that is encoded has several spellings.
    if webhook.path.contains('%') {
        let message =
            format!("webhook.path {:?} cannot be told to nginx: it is percent-encoded", webhook.path);
        return Err(Error::failed(message));
    }
    let socket = match (&args.socket, &webhook.listen) {
        (Some(socket), _) => socket.clone(),
        (None, Listen::Unix(path)) => word(&path.to_string_lossy()).map_err(Error::failed)?,
        (None, Listen::Tcp(_)) => SOCKET.to_owned(),
    };
    let live = PathBuf::from("/etc/letsencrypt/live").join(&args.server_name);
    let or_live = |file: &Option<String>, name: &str| {
        file.clone().unwrap_or_else(|| live.join(name).to_string_lossy().into_owned())
    };
    let places = [
        ("@user@", args.user.clone()),
        ("@error_log@", args.error_log.clone()),
        ("@socket@", socket),
        ("@max_conns@", (webhook.max_connections / 2).max(1).to_string()),
        ("@listen@", args.listen.lines()),
        ("@server_name@", args.server_name.clone()),
        ("@certificate@", or_live(&args.certificate, CERTIFICATE_FILE)),
        ("@key@", or_live(&args.key, KEY_FILE)),
        ("@max_body@", webhook.max_body_bytes.to_string()),
        ("@read_timeout@", duration(webhook.read_timeout)),
        ("@write_timeout@", duration(webhook.write_timeout)),
        ("@idle_timeout@", duration(webhook.idle_timeout)),
        ("@path@", webhook.path.clone()),
    ];
    Ok(places.iter().fold(NGINX.to_owned(), |text, (place, value)| text.replace(place, value)))
}

fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Refuses what would be more than one word, or no plain one, in nginx's language.
fn word(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:".contains(c);
    if !text.starts_with('/') || !text.chars().all(plain) {
        return Err(format!("{text:?} is no absolute path of letters, digits and /._-+:"));
    }
    Ok(text.to_owned())
}

/// A host's or an account's name.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.chars().all(|c| c.is_alphanumeric() || "._-*".contains(c)) {
        return Err(format!("{text:?} is no name of letters, digits and ._-*"));
    }
    Ok(text.to_owned())
}
