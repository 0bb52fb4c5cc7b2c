//! `ktally export`: the same counts for Prometheus, and for one host in a browser.

mod body;
mod confine;
mod connections;
mod exported;
mod listen;
mod opening;
mod page;
mod reader;
mod respond;
mod server;
mod stream;
mod viewing;

use std::path::PathBuf;
use std::rc::Rc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use self::confine::{Needs, confine};
use self::listen::Listener;
use self::opening::Wanted;
use self::reader::Reader;
use self::respond::Responder;
use self::server::Server;
use super::wait::Signals;
use super::{keep_capabilities, note, warn, warn_of};
use crate::cli::{Chosen, Exit, ExportArgs};
use crate::host;

pub(super) fn export(args: &ExportArgs, tallies: Vec<Chosen>) -> Result<Exit> {
    tallies.iter().for_each(|it| warn_of(&it.tally));
    let wanted = Wanted::of(args, tallies)?;
    let signals = Signals::block()?;
    // The addresses are taken first: no tally is loaded in vain.
    let listeners = Listener::all(&args.listen)?;
    let reader = Reader::start(wanted)?;
    for listener in &listeners {
        note(&format!("serving metrics on {listener}"));
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn(&format!(
            "failed to tell systemd that all is ready: {error}"
        ));
    }
    keep_capabilities(Vec::new());
    let sockets: Vec<PathBuf> = listeners.iter().filter_map(Listener::path).collect();
    confine(&Needs::of_server(&sockets))?;
    let names = args.host.iter().cloned().chain([host::name()]);
    let server = Server::new(Responder::new(reader, names.collect()));
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the server")?;
    LocalSet::new().block_on(&runtime, serve(server.into(), listeners, signals))
}

/// Serves until a signal comes.
async fn serve(server: Rc<Server>, listeners: Vec<Listener>, signals: Signals) -> Result<Exit> {
    let mut paths = Vec::new();
    for listener in listeners {
        let (listener, path) = listener.open().context("failed to listen")?;
        paths.push(path);
        tokio::task::spawn_local(Rc::clone(&server).accept(listener));
    }
    tokio::select! {
        result = of_thread(signals)? => result,
        () = server.failed() => Err(anyhow!("the thread that reads has ended")),
    }
}

/// Waits for a signal in another thread.
fn of_thread(signals: Signals) -> Result<impl Future<Output = Result<Exit>>> {
    let (tell, told) = oneshot::channel();
    let wait = move || tell.send(signals.wait_until(None));
    let builder = thread::Builder::new().name("ktally-end".to_owned());
    builder.spawn(wait).context("failed to start a thread")?;
    Ok(async move {
        told.await.context("failed to wait for the end")??;
        Ok(Exit::Done)
    })
}
