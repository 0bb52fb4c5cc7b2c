//! The arguments of the subcommands for those who write C files.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::CompileArgs;
use crate::tally::template_names;

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// What to call it: NAME.bpf.c is made
    pub(crate) name: String,
    /// What it is to be like
    #[arg(short, long, default_value = "counter", value_parser = PossibleValuesParser::new(template_names()))]
    pub(crate) template: String,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// A .bpf.c or a .bpf.o file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(Debug, Args)]
#[command(override_usage = "ktally build [OPTIONS] -o OBJECT FILE")]
pub(crate) struct BuildArgs {
    /// A .bpf.c file; `-o NAME.bpf.o` says where its object goes
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HeadersArgs {
    /// Where to write them, and a `.clangd` that names them
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
}
