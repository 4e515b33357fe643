//! Turns a folder of `.proto` files into the message types of a bastide game.
//!
//! ```no_run
//! // build.rs, whole
//! fn main() -> bastide_build::Result {
//!     bastide_build::compile("proto")
//! }
//! ```
//!
//! ```text
//! // in the crate: one module per protobuf package
//! mod proto {
//!     include!(concat!(env!("OUT_DIR"), "/proto.rs"));
//! }
//! ```
//!
//! Owns the mapping from protobuf to Rust: `pkg.X.Req` becomes `pkg::x::Req` and is tied to
//! `pkg::x::Res` through `bastide::Request`, so that a handler's request type gives both its
//! name on the wire and its answer. Leaves reading and writing the bytes to prost, and parsing
//! `.proto` to protox: no `protoc` is needed.
//!
//! A studio may import bastide's own files (`import "def/item.proto";`); their types are then
//! those of `bastide::def` and `bastide::msg`, not copies.

mod javascript;

use std::{
    collections::BTreeSet,
    env, error, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

pub use javascript::javascript;

/// What [`compile`] returns: the error is a sentence for the person who runs the build.
pub type Result<T = (), E = Box<dyn error::Error>> = std::result::Result<T, E>;

/// bastide's own `def/` and `msg/` files, on every studio's import path.
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");

/// Beside the Rust files: every message, as protobuf describes itself.
const SCHEMA: &str = "proto.bin";

/// Compiles every `.proto` file below `dir` (relative to the crate that is built) into
/// `$OUT_DIR/proto.rs`.
///
/// # Errors
/// When the folder holds no `.proto` file, when one does not parse (with its line), or when
/// `OUT_DIR` is not set, that is, outside a build script.
pub fn compile(dir: impl AsRef<Path>) -> Result {
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: call this from build.rs")?;
    compile_into(dir.as_ref(), Path::new(&out))
}

/// As [`compile`], with the output folder as an argument.
///
/// # Errors
/// As [`compile`].
pub fn compile_into(dir: &Path, out: &Path) -> Result {
    let dir = dir.canonicalize().map_err(|e| format!("{}: {e}", dir.display()))?;
    let bundled = Path::new(BUNDLED).canonicalize().unwrap_or_else(|_| PathBuf::from(BUNDLED));
    let mut files = BTreeSet::new();
    find(&dir, &mut files)?;
    if files.is_empty() {
        return Err(format!("{}: no .proto file in this folder", dir.display()).into());
    }
    rerun_if_changed(&dir);
    rerun_if_changed(&bundled);

    let mut compiler = protox::Compiler::new([&dir, &bundled])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let set = compiler.file_descriptor_set();

    let own: BTreeSet<String> = files
        .iter()
        .filter_map(|f| f.strip_prefix(&dir).ok())
        .map(|f| f.to_string_lossy().replace('\\', "/"))
        .collect();
    generate(&set, &own, out)
}

#[expect(clippy::print_stdout, reason = "cargo reads a build script's standard output")]
fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn find(dir: &Path, files: &mut BTreeSet<PathBuf>) -> Result {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.insert(path);
        }
    }
    Ok(())
}

fn generate(set: &FileDescriptorSet, own: &BTreeSet<String>, out: &Path) -> Result {
    let mut config = prost_build::Config::new();
    config.out_dir(out).include_file("proto.rs").prost_path("::bastide::prost");
    for file in set.file.iter().filter(|f| !own.contains(f.name())) {
        if file.package().starts_with("google.protobuf") {
            continue;
        }
        let module = file.package().replace('.', "::");
        for name in file
            .message_type
            .iter()
            .map(|m| m.name())
            .chain(file.enum_type.iter().map(|e| e.name()))
        {
            config.extern_path(
                format!(".{}.{name}", file.package()),
                format!("::bastide::{module}::{}", name.to_upper_camel_case()),
            );
        }
    }
    config.compile_fds(set.clone())?;
    fs::write(out.join(SCHEMA), described(set))?;

    for file in set.file.iter().filter(|f| own.contains(f.name())) {
        let package = if file.package().is_empty() { "_" } else { file.package() };
        let mut target =
            fs::OpenOptions::new().append(true).open(out.join(format!("{package}.rs")))?;
        target.write_all(impls(file).as_bytes())?;
    }
    quiet(&out.join("proto.rs"))
}

/// Every message that was compiled, as protobuf describes itself; comments are left out.
fn described(set: &FileDescriptorSet) -> Vec<u8> {
    let mut set = set.clone();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set.encode_to_vec()
}

/// The lints of the studio's workspace are about what people wrote.
fn quiet(path: &Path) -> Result {
    const ALLOW: &str = "#[allow(dead_code, missing_docs, unreachable_pub, clippy::all, \
                         clippy::pedantic, clippy::use_self, reason = \"generated from .proto\")]";
    let text = fs::read_to_string(path)?;
    let quiet = text.replace("\npub mod ", &format!("\n{ALLOW}\npub mod "));
    let schema = format!(
        "#[allow(dead_code, reason = \"a package without messages needs none\")]\n\
         static SCHEMA: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{SCHEMA}\"));\n"
    );
    Ok(fs::write(path, quiet + &schema)?)
}

/// `impl Named` for each message of the file, `impl Request` for each that a client may send.
fn impls(file: &FileDescriptorProto) -> String {
    let mut code = String::new();
    let depth = file.package().split('.').filter(|part| !part.is_empty()).count();
    let schema = format!("{}SCHEMA", "super::".repeat(depth));
    for message in &file.message_type {
        name_message(&mut code, message, file.package(), "", &schema);
    }
    code
}

fn name_message(
    code: &mut String,
    message: &DescriptorProto,
    scope: &str,
    module: &str,
    schema: &str,
) {
    if message.options.as_ref().is_some_and(|o| o.map_entry()) {
        return;
    }
    let name = if scope.is_empty() {
        message.name().to_owned()
    } else {
        format!("{scope}.{}", message.name())
    };
    let rust = format!("{module}{}", message.name().to_upper_camel_case());
    let inner = format!("{module}{}::", module_of(message.name()));
    let has = |n: &str| message.nested_type.iter().any(|m| m.name() == n);

    *code += &format!(
        "impl ::bastide::Named for {rust} {{\n    const NAME: &'static str = \"{name}\";\n    \
         fn schema() -> &'static [u8] {{ {schema} }}\n}}\n"
    );
    if has("Req") && has("Res") {
        *code += &format!(
            "impl ::bastide::Request for {inner}Req {{\n    type Res = {inner}Res;\n    \
             const ANSWER: ::core::option::Option<&'static str> = \
             ::core::option::Option::Some(\"{name}.Res\");\n}}\n"
        );
    } else if !has("Req") && !has("Res") && !matches!(message.name(), "Req" | "Res") {
        *code += &format!(
            "impl ::bastide::Request for {rust} {{\n    type Res = ();\n    \
             const ANSWER: ::core::option::Option<&'static str> = ::core::option::Option::None;\n}}\n"
        );
    }
    for nested in &message.nested_type {
        name_message(code, nested, &name, &inner, schema);
    }
}

/// The module that prost puts the messages into that lie in this one.
fn module_of(message: &str) -> String {
    const KEYWORDS: [&str; 47] = [
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do",
        "dyn", "else", "enum", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
        "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
        "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
        "virtual", "where", "while", "yield",
    ];
    match message.to_snake_case() {
        name if matches!(name.as_str(), "self" | "super" | "extern" | "crate") => name + "_",
        name if KEYWORDS.contains(&name.as_str()) => format!("r#{name}"),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(files: &[(&str, &str)]) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        let proto = dir.path().join("proto");
        for (name, text) in files {
            let path = proto.join(name);
            fs::create_dir_all(path.parent().expect("a file has a folder"))?;
            fs::write(path, text)?;
        }
        fs::create_dir_all(&proto)?;
        compile_into(&proto, dir.path())?;
        Ok(dir)
    }

    #[test]
    fn a_request_is_tied_to_its_answer_by_the_name_of_the_message_around_both() {
        let dir = compiled(&[(
            "duel.proto",
            "syntax = \"proto3\"; package duel;
             message StartFight { message Req { string foe = 1; } message Res { int32 code = 1; } }",
        )])
        .expect("compiles");
        let code = fs::read_to_string(dir.path().join("duel.rs")).expect("written");
        assert!(code.contains("impl ::bastide::Request for start_fight::Req"), "{code}");
        assert!(code.contains("type Res = start_fight::Res;"), "{code}");
        assert!(code.contains("const NAME: &'static str = \"duel.StartFight.Req\""), "{code}");
    }

    #[test]
    fn a_message_may_be_named_like_a_word_of_rust() {
        let dir = compiled(&[(
            "duel.proto",
            "syntax = \"proto3\"; package duel;
             message Match { message Req {} message Res {} }
             message Self { message Req {} message Res {} }",
        )])
        .expect("compiles");
        let code = fs::read_to_string(dir.path().join("duel.rs")).expect("written");
        assert!(code.contains("pub mod r#match {"), "{code}");
        assert!(code.contains("impl ::bastide::Request for r#match::Req"), "{code}");
        assert!(code.contains("pub mod self_ {"), "{code}");
        assert!(code.contains("impl ::bastide::Request for self_::Req"), "{code}");
    }

    #[test]
    fn a_message_without_req_is_an_input_without_answer() {
        let dir = compiled(&[(
            "duel.proto",
            "syntax = \"proto3\"; package duel; message Move { float x = 1; }",
        )])
        .expect("compiles");
        let code = fs::read_to_string(dir.path().join("duel.rs")).expect("written");
        assert!(code.contains("impl ::bastide::Request for Move {\n    type Res = ();"), "{code}");
    }

    #[test]
    fn a_bundled_file_can_be_imported_and_is_not_copied() {
        let dir = compiled(&[(
            "shop.proto",
            "syntax = \"proto3\"; package shop; import \"def/item.proto\";
             message Stock { repeated def.Item items = 1; }",
        )])
        .expect("compiles");
        let code = fs::read_to_string(dir.path().join("shop.rs")).expect("written");
        assert!(code.contains("::bastide::def::Item"), "{code}");
        assert!(!dir.path().join("def.rs").exists());
    }

    #[test]
    fn a_mistake_in_a_file_is_told_with_its_name() {
        let failure = compiled(&[("bad.proto", "syntax = \"proto3\"; message {")]).unwrap_err();
        assert!(format!("{failure:?}").contains("bad.proto"), "{failure:?}");
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let failure = compiled(&[]).unwrap_err();
        assert!(failure.to_string().contains("no .proto file"), "{failure}");
    }
}
