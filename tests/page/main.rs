//! The page of `ktally export`, in a real browser: `page.mjs` looks at the page of an
//! exporter that counts on this kernel, as root.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

#[path = "../common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use common::{Args, command, program};

/// What `make test` puts there: the library that talks to the browser, and the judge of
/// accessibility.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/page");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/page.mjs");

/// An exporter at an address of its own, killed when dropped.
struct Exporter {
    process: Child,
    url: String,
}

impl Exporter {
    fn start(args: &str) -> Self {
        let mut command = args.pass_to(program());
        command.args(["--listen", "127.0.0.1:0"]);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let url = lines.find_map(|line| {
            said.push(line.unwrap());
            let (_, url) = said.last()?.split_once("http://")?;
            let address = url.split(['/', ' ']).next()?;
            Some(format!("http://{address}/"))
        });
        // Read to its end, so that a write never fails.
        std::thread::spawn(move || lines.for_each(drop));
        let url = url.unwrap_or_else(|| panic!("it does not listen: {said:?}"));
        Self { process, url }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program of this name in `PATH`.
fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let files = names
        .iter()
        .flat_map(|name| folders.iter().map(move |it| it.join(name)));
    files.into_iter().find(|file| file.exists())
}

#[test]
fn the_page_in_a_browser() {
    let browser = find(&["chromium", "chromium-browser"]);
    let (Some(browser), Some(node)) = (browser, find(&["node"])) else {
        return eprintln!("skipped: there is no Chromium, or no Node.js, to look at the page");
    };
    if !Path::new(MODULES).join("node_modules").exists() {
        return eprintln!(
            "skipped: the modules of tests/page are not there; `make test` brings them"
        );
    }
    assert!(nix::unistd::geteuid().is_root(), "counting needs root");
    let exporter = Exporter::start("export failures syscalls");
    let mut page = command(node);
    page.args([
        SCRIPT,
        &exporter.url,
        &exporter.process.id().to_string(),
        MODULES,
    ]);
    let output = page.arg(browser).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
}
