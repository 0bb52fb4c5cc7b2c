//! Compiles every tally of `src/bpf/` and every helper of `src/bpf/internal/`,
//! generates their skeletons, writes the catalogue from what it found, and packs the
//! pages of `docs/`.
//!
//! No tally is named here or anywhere else: adding one is adding its C file.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use libbpf_cargo::SkeletonBuilder;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The flags of every object; libbpf-cargo adds `-O2 -g`. `ktally` compiles its users'
/// C files with the same flags.
const FLAGS: &str = include_str!("src/bpf/flags");

/// The first clang that knows `btf_decl_tag`.
const OLDEST_CLANG: u32 = 14;

fn main() {
    if let Err(error) = build() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn build() -> Result<()> {
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let stamp = out.join("clang");
    let version = check_clang(&clang)?;
    // A new compiler recompiles every object.
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&version) {
        fs::write(&stamp, version)?;
    }

    for (folder, list) in [
        ("src/bpf", "catalogue.rs"),
        ("src/bpf/internal", "internal.rs"),
    ] {
        println!("cargo:rerun-if-changed={folder}");
        let mut names = Vec::new();
        for source in files(folder, ".bpf.c")? {
            let name = name_of(&source)?;
            let object = out.join(format!("{name}.bpf.o"));
            let skeleton = out.join(format!("{name}.skel.rs"));
            if !is_fresh(&skeleton, &[&source, &stamp])? {
                compile(&clang, &source, &object, &skeleton)?;
                pack(&object, &out)?;
            }
            names.push(name);
        }
        fs::write(out.join(list), modules(&names)? + &entries(folder, &names)?)?;
    }
    fs::write(out.join("headers.rs"), headers(&out)?)?;
    pack_pages(&out)
}

/// For `ktally help TOPIC`.
fn pack_pages(out: &Path) -> Result<()> {
    println!("cargo:rerun-if-changed=docs");
    for page in files("docs", ".md")? {
        pack(&page, out)?;
    }
    Ok(())
}

/// `NAME.z` is the file, packed.
fn pack(file: &Path, out: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let packed = File::create(out.join(format!("{name}.z")))?;
    let mut packer = ZlibEncoder::new(packed, Compression::best());
    packer.write_all(&fs::read(file)?)?;
    packer.finish()?;
    Ok(())
}

/// Returns what `clang --version` prints. Without clang, or if it is too old, the error
/// names the package to install.
fn check_clang(clang: &str) -> Result<String> {
    const FIX: &str = "install clang (Debian, Ubuntu, Fedora, Arch: package `clang`), \
                       or run `make setup`, or point CLANG at one";
    let version = Command::new(clang)
        .arg("--version")
        .output()
        .map_err(|error| format!("failed to run `{clang}`: {error}; {FIX}"))?;
    let version = String::from_utf8_lossy(&version.stdout);
    let major: u32 = version
        .split_once("version ")
        .and_then(|(_, rest)| rest.split('.').next()?.parse().ok())
        .ok_or_else(|| format!("failed to read the version of `{clang}`; {FIX}"))?;
    if major < OLDEST_CLANG {
        return Err(format!(
            "`{clang}` is version {major}, and BTF declaration tags need {OLDEST_CLANG}; {FIX}"
        )
        .into());
    }
    Ok(version.into_owned())
}

/// The files of a folder with this ending, sorted.
fn files(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    Ok(files)
}

/// The name in `NAME.bpf.c`, which also becomes a Rust module.
fn name_of(source: &Path) -> Result<String> {
    let name = source
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".bpf.c"))
        .unwrap_or_default();
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !good {
        return Err(format!(
            "`{}`: a tally's file is named with lower-case letters, digits and `_`",
            source.display()
        )
        .into());
    }
    Ok(name.to_owned())
}

/// Whether a product is newer than its sources and the inputs of all products.
fn is_fresh(product: &Path, sources: &[&Path]) -> Result<bool> {
    let Ok(product) = fs::metadata(product) else {
        return Ok(false);
    };
    let made: SystemTime = product.modified()?;
    let mut inputs = files("src/bpf", ".h")?;
    inputs.extend(["src/bpf/flags".into(), env::current_exe()?]);
    inputs.extend(sources.iter().map(|source| source.to_path_buf()));
    for input in inputs {
        if fs::metadata(input)?.modified()? >= made {
            return Ok(false);
        }
    }
    Ok(true)
}

fn compile(clang: &str, source: &Path, object: &Path, skeleton: &Path) -> Result<()> {
    // Objects name the lines of their source, and are the same wherever they are made.
    let here = format!("-fdebug-prefix-map={}=.", env::current_dir()?.display());
    SkeletonBuilder::new()
        .source(source)
        .obj(object)
        .clang(clang)
        .clang_args(FLAGS.split_whitespace().chain(["-Isrc/bpf", &here]))
        .reference_obj(true)
        .build_and_generate(skeleton)
        .map_err(|error| format!("{error:#}"))?;
    Ok(())
}

/// One module per skeleton.
fn modules(names: &[String]) -> Result<String> {
    let mut code = String::new();
    for name in names {
        writeln!(
            code,
            "#[allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, unused, rust_2018_idioms)]\n\
             #[rustfmt::skip]\n\
             pub(crate) mod {name} {{ include!(concat!(env!(\"OUT_DIR\"), \"/{name}.skel.rs\")); }}"
        )?;
    }
    Ok(code)
}

/// The catalogue: one entry per tally, sorted by name. For helpers, the object itself:
/// some are loaded with a map of another program.
fn entries(folder: &str, names: &[String]) -> Result<String> {
    let mut code = String::new();
    if folder.ends_with("internal") {
        for name in names {
            let constant = name.to_ascii_uppercase();
            writeln!(
                code,
                "#[allow(dead_code)]\n\
                 pub(crate) static {constant}: LazyLock<Vec<u8>> = LazyLock::new(|| \
                 unpack(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.bpf.o.z\"))));"
            )?;
        }
        return Ok(code);
    }
    code.push_str("\n/// Every tally of `src/bpf/`, by name.\nstatic CATALOGUE: &[Builtin] = &[\n");
    for name in names {
        let skeleton = camel_case(name);
        writeln!(
            code,
            "    Builtin {{ name: \"{name}\", open: |btf| \
             skeleton::open({name}::{skeleton}SkelBuilder::default(), btf) }},"
        )?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// The headers, packed, for the C files of users.
fn headers(out: &Path) -> Result<String> {
    let mut code = String::from("const HEADERS: &[(&str, &[u8])] = &[\n");
    for path in files("src/bpf", ".h")? {
        pack(&path, out)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(
            code,
            "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.z\"))),"
        )?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// The name that libbpf-cargo gives to the types of a skeleton.
fn camel_case(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let (head, tail) = word.split_at(word.len().min(1));
            head.to_ascii_uppercase() + tail
        })
        .collect()
}
