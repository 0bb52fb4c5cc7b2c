//! The thread that reads: it opens the sources, as what libbpf opens stays there, and
//! answers what the server asks. All who ask within a moment get one reading.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};
use caps::Capability;
use hyper::StatusCode;
use nix::unistd::User;
use serde_json::json;
use tokio::sync::oneshot;

use super::confine::{Needs, confine};
use super::exported::{Exported, Limits, SHARED};
use super::opening::Wanted;
use super::viewing::{Refusal, Shown, Since};
use crate::commands::source::Source;
use crate::commands::{keep_capabilities, warn};
use crate::error::unknown_text;
use crate::export::{View, answer};
use crate::host;
use crate::names::{self, HostNames};
use crate::render::{Families, FamilyKind, labels};
use crate::schema::Table;
use crate::tally::{InstanceName, Instances, measure};

/// What the server asks, and where the answer goes.
pub(super) enum Ask {
    Scrape(oneshot::Sender<Arc<Families>>),
    Tallies(oneshot::Sender<String>),
    View(Box<(View, Since)>, oneshot::Sender<Result<Shown, Refusal>>),
}

/// The thread, from outside.
#[derive(Clone)]
pub(super) struct Reader {
    asks: Sender<Ask>,
}

impl Reader {
    /// Returns once all sources count, and the thread is confined.
    pub(super) fn start(wanted: Wanted) -> anyhow::Result<Self> {
        let (asks, asked) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let work = move || match Sources::open(&wanted) {
            Err(error) => _ = tell.send(Err(error)),
            Ok(mut sources) => {
                let confined = sources.confine(wanted.user.as_ref());
                let is_confined = confined.is_ok();
                if tell.send(confined).is_ok() && is_confined {
                    sources.answer(&asked);
                }
            }
        };
        let builder = thread::Builder::new().name("ktally-reader".to_owned());
        builder.spawn(work).context("failed to start a thread")?;
        told.recv().map_err(|_| anyhow!(ENDED))??;
        Ok(Self { asks })
    }

    /// A scrape of now.
    pub(super) async fn scrape(&self) -> Result<Arc<Families>, Refusal> {
        self.ask(Ask::Scrape).await
    }

    /// What there is to read.
    pub(super) async fn tallies(&self) -> Result<String, Refusal> {
        self.ask(Ask::Tallies).await
    }

    /// A reading as a view shows it.
    pub(super) async fn view(&self, view: View, since: Since) -> Result<Shown, Refusal> {
        self.ask(|tell| Ask::View((view, since).into(), tell))
            .await?
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Refusal> {
        let (tell, told) = oneshot::channel();
        let ended = || (StatusCode::INTERNAL_SERVER_ERROR, ENDED.to_owned());
        self.asks.send(ask(tell)).map_err(|_| ended())?;
        told.await.map_err(|_| ended())
    }
}

pub(super) const ENDED: &str = "the thread that reads has ended";

/// Everything that is exported.
pub(super) struct Sources {
    all: Vec<Exported>,
    names: HostNames,
    limits: Limits,
    /// Whether every instance is followed, also later ones.
    takes_attached: bool,
    /// While it is open, the kernel measures what programs cost.
    measured: Option<OwnedFd>,
    scrape: Option<(Instant, Arc<Families>)>,
}

impl Sources {
    fn open(wanted: &Wanted) -> anyhow::Result<Self> {
        let limits = wanted.limits();
        let sources = wanted.open()?;
        let all = sources.into_iter().map(|it| Exported::new(it, &limits));
        let mut sources = Self {
            all: all.collect(),
            names: HostNames::new(),
            limits,
            takes_attached: wanted.takes_attached,
            measured: wanted.is_measured.then(measure).transpose()?,
            scrape: None,
        };
        sources.follow();
        Ok(sources)
    }

    /// Changes the user of the process, and gives up what reading does not take: that is
    /// each thread's own.
    fn confine(&self, user: Option<&User>) -> anyhow::Result<()> {
        let capabilities = self.names.capabilities(self.tables());
        let reads_processes = capabilities.contains(&Capability::CAP_DAC_READ_SEARCH);
        if let Some(user) = user {
            caps::securebits::set_keepcaps(true)?;
            host::become_user(user)?;
        }
        keep_capabilities(capabilities);
        confine(&Needs::of_reader(reads_processes))
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        let sources = self.all.iter().filter_map(Exported::source);
        sources.flat_map(|source| &source.tables)
    }

    /// Answers until the server is gone.
    fn answer(&mut self, asked: &Receiver<Ask>) {
        loop {
            match asked.recv_timeout(names::PAUSE) {
                Ok(Ask::Scrape(tell)) => _ = tell.send(self.scrape()),
                Ok(Ask::Tallies(tell)) => _ = tell.send(self.tallies()),
                Ok(Ask::View(asked, tell)) => _ = tell.send(self.view(&asked.0, &asked.1)),
                Err(RecvTimeoutError::Timeout) => self.rest(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    /// Takes note of what has a name now.
    fn look(&mut self) {
        for source in self.all.iter().filter_map(Exported::source) {
            for (pid, address) in source.take_stack_processes().unwrap_or_default() {
                self.names.remember(pid, address);
            }
        }
        self.names.look(self.tables());
    }

    fn tallies(&mut self) -> String {
        self.follow();
        let host = json!({
            "host": host::name(),
            "kernel": host::kernel_release(),
            "cpus": host::cpus(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        let listed: Vec<_> = self.all.iter().map(Exported::listed).collect();
        answer::tallies(host, &listed)
    }

    fn view(&mut self, view: &View, since: &Since) -> Result<Shown, Refusal> {
        self.follow();
        let is_it = |it: &&mut Exported| view.tally.as_deref().is_none_or(|name| it.name() == name);
        let mut all = self.all.iter_mut();
        let Some(exported) = all.find(is_it) else {
            let known = self.all.iter().map(Exported::name);
            let why = unknown_text("tally", view.tally.as_deref().unwrap_or_default(), known);
            return Err((StatusCode::NOT_FOUND, why));
        };
        exported.view(view, since, &self.names)
    }

    fn rest(&mut self) {
        self.scrape = None;
        self.all.iter_mut().for_each(Exported::rest);
    }

    fn scrape(&mut self) -> Arc<Families> {
        if let Some((at, scrape)) = &self.scrape
            && at.elapsed() < SHARED
        {
            return Arc::clone(scrape);
        }
        let at = Instant::now();
        self.follow();
        let mut families = Families::default();
        for exported in &mut self.all {
            exported.add_to(&mut families, &self.names, self.measured.is_some());
        }
        add_own(&mut families);
        let scrape = Arc::new(families);
        self.scrape = Some((at, Arc::clone(&scrape)));
        scrape
    }

    /// Opens instances that were attached since, and gives up those that are gone.
    fn follow(&mut self) {
        let attached = Instances::attached().unwrap_or_else(|error| {
            warn(&format!("failed to look for instances: {error:#}"));
            Vec::new()
        });
        for exported in &mut self.all {
            if let Err(error) = exported.follow(&attached, &self.limits) {
                warn(&format!("{}: {error:#}", exported.name()));
            }
        }
        let is_new = |name: &&_| {
            self.all
                .iter()
                .all(|it| it.name() != InstanceName::as_str(name))
        };
        let new = attached
            .iter()
            .filter(|_| self.takes_attached)
            .filter(is_new);
        let new: Vec<_> = new
            .map(|it| Source::attached(it, &self.limits.hints))
            .collect();
        for source in new {
            match source {
                Ok(source) => self.all.push(Exported::new(source, &self.limits)),
                Err(error) => warn(&format!("{error:#}")),
            }
        }
    }
}

/// What this process is, and what it takes.
fn add_own(families: &mut Families) {
    let version = labels(&[
        ("version", env!("CARGO_PKG_VERSION")),
        ("kernel", &host::kernel_release()),
    ]);
    families.add(BUILD_INFO, version, true);
    families.add(CPU, String::new(), host::own_cpu_time());
    families.add(MEMORY, String::new(), host::own_memory());
}

const BUILD_INFO: (FamilyKind, &str, &str) = (
    FamilyKind::Gauge,
    "ktally_build_info",
    "always 1: the version of ktally, and the kernel's",
);
const CPU: (FamilyKind, &str, &str) = (
    FamilyKind::Counter,
    "process_cpu_seconds",
    "time that CPUs spent on the exporter",
);
const MEMORY: (FamilyKind, &str, &str) = (
    FamilyKind::Gauge,
    "process_resident_memory_bytes",
    "memory of the exporter that is resident",
);
