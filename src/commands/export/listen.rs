//! Where the server listens: addresses, paths, and what systemd has opened.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use crate::error::usage;

/// Without `--listen`.
const DEFAULT: &str = "127.0.0.1:9777";

/// A socket that is bound.
pub(super) enum Listener {
    Tcp(net::TcpListener),
    Unix(unix::UnixListener, Option<Removed>),
}

/// The same for the server.
pub(super) enum Open {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Removes its path when it is dropped.
pub(super) struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// What systemd has opened, or these, or the default.
    pub(super) fn all(given: &[String]) -> Result<Vec<Self>> {
        if given.is_empty() {
            let opened = Self::opened().context("failed to take the sockets of systemd")?;
            if !opened.is_empty() {
                return Ok(opened);
            }
            return Ok(vec![Self::bind(DEFAULT)?]);
        }
        given.iter().map(|address| Self::bind(address)).collect()
    }

    fn bind(address: &str) -> Result<Self> {
        let bound = match address.strip_prefix("unix:") {
            Some(path) => Self::bind_path(Path::new(path)),
            None => net::TcpListener::bind(address).map(Self::Tcp),
        };
        bound.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => usage(format!(
                "`{address}` is not an address: write ADDRESS:PORT like `127.0.0.1:9777` or `[::]:9777`, or unix:PATH"
            )),
            io::ErrorKind::AddrInUse => anyhow::anyhow!(
                "failed to listen on `{address}`: another program does; choose another with --listen"
            ),
            _ => anyhow::Error::new(error).context(format!("failed to listen on `{address}`")),
        })
    }

    /// A socket that no program listens on is left from before.
    fn bind_path(path: &Path) -> io::Result<Self> {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
        if is_socket && unix::UnixStream::connect(path).is_err() {
            fs::remove_file(path)?;
        }
        let listener = unix::UnixListener::bind(path)?;
        let removed = Removed(std::path::absolute(path)?);
        fs::set_permissions(path, Permissions::from_mode(0o660))?;
        Ok(Self::Unix(listener, Some(removed)))
    }

    /// The sockets that systemd has opened.
    fn opened() -> io::Result<Vec<Self>> {
        let mut sockets = ListenFd::from_env();
        let mut opened = Vec::new();
        for i in 0..sockets.len() {
            if let Ok(Some(listener)) = sockets.take_tcp_listener(i) {
                opened.push(Self::Tcp(listener));
            } else if let Some(listener) = sockets.take_unix_listener(i)? {
                opened.push(Self::Unix(listener, None));
            }
        }
        Ok(opened)
    }

    /// The path that is removed at the end.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Unix(_, Some(Removed(path))) => Some(path.clone()),
            _ => None,
        }
    }

    /// In the server's runtime, and what to remove at the end.
    pub(super) fn open(self) -> io::Result<(Open, Option<Removed>)> {
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                (Open::Tcp(TcpListener::from_std(listener)?), None)
            }
            Self::Unix(listener, removed) => {
                listener.set_nonblocking(true)?;
                (Open::Unix(UnixListener::from_std(listener)?), removed)
            }
        })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "http://{address}/metrics"),
                Err(_) => f.write_str("a socket"),
            },
            Self::Unix(_, Some(Removed(path))) => write!(f, "unix:{}", path.display()),
            Self::Unix(_, None) => f.write_str("a socket of systemd"),
        }
    }
}
