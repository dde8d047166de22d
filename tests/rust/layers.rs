//! The house rules that a compiler does not check: layers, file sizes, and who may know
//! Python or Feast.

use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each top-level module, as the table in `src/lib.rs` has it.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("call", 0),
    ("config", 0),
    ("process_local", 0),
    ("runtime", 0),
    ("value", 1),
    ("key", 1),
    ("hash", 1),
    ("cloud", 1),
    ("registry", 2),
    ("store", 2),
    ("online", 3),
    ("offline", 3),
    ("materialize", 4),
    ("history", 4),
    ("server", 5),
    ("verify", 5),
    ("py", 6),
    ("fuzz", 6),
];

/// The imports allowed within one layer: (file, what it may import).
const WITHIN_A_LAYER: &[(&str, &str)] = &[
    ("call", "error"),
    ("config", "error"),
    ("runtime", "call"),
    ("runtime", "error"),
    ("runtime", "process_local"),
    ("key", "value"),
];

/// Names that `lib.rs` re-exports from layer 0.
const REEXPORTED: &[&str] = &["Error", "ErrorKind", "Result"];

const MAX_LINES: usize = 700;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `dir` whose name ends in one of `extensions`, sorted.
fn files_under(dir: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(dir)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// The top-level module that a file of `src/` belongs to; `lib` for the root.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// `text` without comments and doc comments, so that prose may name any module.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| match line.find("//") {
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first path segment after each `crate::`, groups (`crate::{a, b::c}`) included.
fn imported_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue; // `$crate::` inside a macro: resolved where it is used
        }
        let rest = &code[at + marker.len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(heads_of_group(group)),
            None => modules.push(identifier(rest).to_string()),
        }
    }
    modules
}

/// The first identifier of each item of a brace group, whose opening brace is already read.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut at_item) = (1, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_item = true,
            c if at_item && depth == 1 && !c.is_whitespace() => {
                heads.push(identifier(&group[at..]).to_string());
                at_item = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Why `file` may not import `module`, or `None` when it may.
fn offence(file: &str, module: &str) -> Option<String> {
    if module == file || REEXPORTED.contains(&module) {
        return None;
    }
    let Some(imported) = layer_of(module) else {
        return Some(format!(
            "imports crate::{module}, which has no layer in tests/rust/layers.rs"
        ));
    };
    let own = layer_of(file)?;
    let allowed = imported < own || WITHIN_A_LAYER.contains(&(file, module));
    (!allowed).then(|| {
        format!("(L{own}) imports crate::{module} (L{imported}); only lower layers may be imported")
    })
}

#[test]
fn every_module_has_a_layer() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in without_comments(&lib).lines() {
        let Some(module) = line.trim().trim_start_matches("pub ").strip_prefix("mod ") else {
            continue;
        };
        let module = module.trim_end_matches(';');
        assert!(layer_of(module).is_some(), "mod {module} has no layer in tests/rust/layers.rs");
    }
}

#[test]
fn files_import_lower_layers_and_their_own_folder_only() {
    let mut offences = Vec::new();
    for path in files_under("src", &["rs"]) {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let code = without_comments(&fs::read_to_string(&path).unwrap());
        assert!(layer_of(&module).is_some(), "{} has no layer", name_of(&path));
        for imported in imported_modules(&code) {
            if let Some(why) = offence(&module, &imported) {
                offences.push(format!("{} {why}", name_of(&path)));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn no_file_is_longer_than_the_wall() {
    let mut offences = Vec::new();
    for dir in ["src", "python", "tests", "benches", "examples"] {
        for path in files_under(dir, &["rs", "py", "pyi"]) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > MAX_LINES {
                offences.push(format!("{} has {lines} lines", name_of(&path)));
            }
        }
    }
    assert!(offences.is_empty(), "split by what it holds:\n{}", offences.join("\n"));
}

#[test]
fn only_the_bindings_know_python() {
    let mut offences = Vec::new();
    for path in files_under("src", &["rs"]) {
        let module = module_of(&path);
        if module == "py" {
            continue;
        }
        let code = without_comments(&fs::read_to_string(&path).unwrap());
        let feature = module != "lib" && code.contains("feature = \"python\"");
        if code.contains("pyo3") || feature {
            offences.push(name_of(&path));
        }
    }
    assert!(offences.is_empty(), "Python outside src/py:\n{}", offences.join("\n"));
}

/// The heavy packages that `import feastrs` must never load.
const OPTIONAL_PACKAGES: &[&str] = &["feast", "pandas", "pyarrow", "polars", "numpy"];

/// Whether a line is an import, at module level, of `package` itself (not of `feastrs`).
fn imports_at_module_level(line: &str, package: &str) -> bool {
    ["import ", "from "]
        .iter()
        .any(|keyword| line.strip_prefix(keyword).is_some_and(|names| identifier(names) == package))
}

#[test]
fn importing_the_package_loads_nothing_optional() {
    let mut offences = Vec::new();
    for path in files_under("python/feastrs", &["py"]) {
        if path.starts_with(root().join("python/feastrs/feast")) {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            for package in OPTIONAL_PACKAGES {
                if imports_at_module_level(line, package) {
                    offences.push(format!("{}: {line}", name_of(&path)));
                }
            }
        }
    }
    assert!(offences.is_empty(), "import inside the function:\n{}", offences.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let code = "use crate::{error::Error, value::{Column, ValueType}, key};\ncrate::store::x()";
    assert_eq!(imported_modules(code), ["error", "value", "key", "store"]);
    assert!(imports_at_module_level("from feast.errors import X", "feast"));
    assert!(!imports_at_module_level("from feastrs import X", "feast"));
    assert!(offence("key", "store").is_some());
    assert!(offence("store", "key").is_none());
    assert!(offence("online", "offline").is_some());
}
