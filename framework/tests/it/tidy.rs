//! Rules of text, held by tests: what the documents name exists, modules know only what they
//! may, files say what they own and stay small.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file below a folder, without what cargo builds.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What stands before the tests of a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn every_file_begins_by_saying_what_it_owns_and_stays_below_600_lines() {
    let mut wrong = Vec::new();
    for folder in ["framework", "examples", "benches"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//! ") {
                wrong.push(format!("{} does not begin with //!", path.display()));
            }
            let lines = without_tests(&text).lines().count();
            if lines > 600 {
                wrong.push(format!("{} has {lines} lines", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Module → what it must not name. The way of a message goes one way; what is behind a module
/// does not know what is before it.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("wire", &["gate", "link", "entity", "directory", "account", "store", "node", "app", "tokio"]),
    ("entity", &["gate", "account", "node", "app", "cli"]),
    ("link", &["gate", "entity", "account", "store", "node", "app"]),
    ("directory", &["account", "gate", "entity", "link", "node", "app"]),
    ("store", &["gate", "entity", "link", "account", "node", "app"]),
    ("account", &["gate", "entity", "link", "node", "app"]),
    ("client", &["gate", "entity", "link", "account", "store", "node", "app"]),
    ("load", &["gate", "entity", "link", "directory", "account", "store", "node", "cli"]),
    ("gate", &["store", "node", "app", "cli"]),
];

#[test]
fn modules_know_only_what_they_may() {
    let mut wrong = Vec::new();
    for (module, forbidden) in FORBIDDEN {
        let sources = sources(&root().join("framework/src").join(module));
        for path in sources.iter().filter(|path| !path.ends_with("tests.rs")) {
            let text = fs::read_to_string(path).unwrap();
            let text = without_tests(&text);
            for name in *forbidden {
                // `use crate::{a, b::c}` is written one module a line by rustfmt.
                let direct = format!("crate::{name}");
                let nested = [format!("    {name}::"), format!("    {name},")];
                let crate_use =
                    text.split("use crate::{").nth(1).and_then(|t| t.split("};").next());
                let in_use = crate_use.is_some_and(|t| {
                    t.lines().any(|l| nested.iter().any(|n| l.starts_with(n.as_str())))
                });
                let outside = *name == "tokio" && text.contains("tokio::");
                if text.contains(&direct) || in_use || outside {
                    wrong.push(format!("{} names {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// ARCHITECTURE names code as `file.rs::symbol`; each must be there.
#[test]
fn every_symbol_that_the_architecture_names_exists() {
    let text = read("docs/ARCHITECTURE.md");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((file, symbol)) = quoted.split_once(".rs::") else { continue };
        seen += 1;
        let path = root().join("framework/src").join(format!("{file}.rs"));
        let Ok(source) = fs::read_to_string(&path) else {
            wrong.push(format!("{quoted}: no such file"));
            continue;
        };
        let name = symbol.rsplit("::").next().unwrap_or(symbol);
        let kinds = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod"];
        let defined = kinds.iter().any(|kind| {
            [" ", "(", "<", ":", "{", ";"]
                .iter()
                .any(|end| source.contains(&format!("{kind} {name}{end}")))
        });
        if !defined {
            wrong.push(format!("{quoted}: not defined there"));
        }
    }
    assert!(seen >= 15, "the life of a message names its code: {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_architecture_lists_every_limit_with_its_value() {
    let limits = ["limits.rs", "limits/codecs.rs", "limits/http.rs"]
        .map(|file| read(format!("framework/src/{file}")))
        .concat();
    let table = read("docs/ARCHITECTURE.md");
    for line in limits.lines().filter(|l| l.starts_with("pub(crate) const ")) {
        let name = line["pub(crate) const ".len()..].split(':').next().unwrap();
        assert!(table.contains(&format!("`{name}`")), "{name} is not in docs/ARCHITECTURE.md");
    }
}

#[test]
fn every_meter_that_operators_are_told_to_watch_exists() {
    let meters = read("framework/src/telemetry.rs");
    let page = read("docs/CLUSTER.md") + &read("docs/TRANSPORTS.md");
    let quoted = page.split('`').skip(1).step_by(2);
    let of_ours = |name: &&str| ["gate_", "link_", "entity_"].iter().any(|m| name.starts_with(m));
    let named: Vec<_> = quoted.filter(of_ours).collect();
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        assert!(meters.contains(&format!("(\"{name}\")")), "{name} is no meter");
    }
}

#[test]
fn the_readme_shows_the_smallest_server_as_it_is_and_it_has_at_most_30_lines() {
    let server = read("examples/echo/src/main.rs");
    assert!(server.lines().count() <= 30);
    assert!(
        read("README.md").contains(&server),
        "README.md differs from examples/echo/src/main.rs"
    );
}

#[test]
fn every_relative_link_in_the_documents_leads_somewhere() {
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/ARCHITECTURE.md",
        "docs/CLUSTER.md",
        "docs/TRANSPORTS.md",
        "docs/SESSIONS.md",
        "docs/ACCOUNTS.md",
        "docs/OTHER_CLIENTS.md",
        "docs/CODECS.md",
        "docs/ROOMS.md",
        "docs/LOAD.md",
        "docs/WEB.md",
    ] {
        let text = read(document);
        let folder = root().join(document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            let target = link.split('#').next().unwrap_or(link);
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{document}: {link}");
            }
        }
    }
}
