//! What `docs/schema/` says about the program's output.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Registry;
use serde_json::{Value, json};

use super::{Ended, json, json_lines};

/// Where the schemas refer to each other.
const BASE: &str = "https://ktally.invalid/";

/// Every file.
static SCHEMAS: LazyLock<Registry<'static>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let mut schemas = Registry::new();
    for file in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let uri = format!("{BASE}{}", file.file_name().display());
        let schema = json(&fs::read_to_string(file.path()).unwrap());
        schemas = schemas.add(uri, schema).unwrap();
    }
    schemas.prepare().unwrap()
});

/// A schema holds for this value. `schema` is a file, or a part of one.
#[track_caller]
pub fn assert_valid(schema: &str, value: &Value) {
    let schema = json!({"$ref": format!("{BASE}{schema}")});
    let options = jsonschema::options().with_registry(&SCHEMAS).offline();
    let validator = options.build(&schema).unwrap();
    let errors = validator.iter_errors(value);
    let errors: Vec<String> = errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{schema}: {errors:#?}");
}

/// Whether what `kind` describes is a list, with an object per line as jsonl.
fn is_list(kind: &str) -> bool {
    let file = format!("docs/schema/{kind}.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    json(&fs::read_to_string(path).unwrap())["type"] == "array"
}

/// A document of JSON, and its lines of JSON, have what is written about them, and
/// there is something to see. `run` runs a command with `-o` and this format.
#[track_caller]
pub fn assert_documented(kind: &str, run: impl Fn(&str) -> Ended) {
    let file = format!("{kind}.json");
    let document = run("json").json();
    assert_ne!(document, json!([]), "{kind}");
    assert_valid(&file, &document);
    assert_lines_documented(kind, &run("jsonl"));
}

/// The same for lines alone.
#[track_caller]
pub fn assert_lines_documented(kind: &str, ended: &Ended) {
    let line = if is_list(kind) { "#/$defs/line" } else { "" };
    let lines = json_lines(&ended.stdout);
    assert!(!lines.is_empty(), "{kind}: {ended:?}");
    for value in lines {
        assert_valid(&format!("{kind}.json{line}"), &value);
    }
}
